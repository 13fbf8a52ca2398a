"""Real texts, strategies' common ground and the independent references: tokenizers, tiktoken."""

import argparse
import inspect
import json
import lzma
import typing
from collections.abc import Callable
from pathlib import Path

import pytest
import tiktoken
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers

from groundup.tokenizer import Tokenizer
from groundup.tokenizer.alphabet import to_characters

CHARACTERS = 100_000


@pytest.fixture(scope="session")
def texts(shared_data: Path) -> dict[str, str]:
    """English, Chinese and Python, 100,000 characters each: half a megabyte."""
    with lzma.open(shared_data / "pretrain_zh" / "luxun.jsonl.xz", "rt", encoding="utf-8") as file:
        chinese = "\n\n".join(json.loads(line)["text"] for line in file)
    return {
        "english": (shared_data / "pretrain_en" / "tinyshakespeare.txt").read_text("utf-8")[:CHARACTERS],
        "chinese": chinese[:CHARACTERS],
        "code": (inspect.getsource(argparse) + inspect.getsource(typing))[:CHARACTERS],
    }


@pytest.fixture(scope="session")
def trained(texts: dict[str, str]) -> Callable[[str], Tokenizer]:
    """Tokenizers of 2,000 ids on all texts, by pattern."""
    cache: dict[str, Tokenizer] = {}

    def of_pattern(pattern: str) -> Tokenizer:
        if pattern not in cache:
            cache[pattern] = Tokenizer.train(texts.values(), 2000, pattern, ("<|endoftext|>", "<|im_start|>"))
        return cache[pattern]

    return of_pattern


@pytest.fixture(scope="session")
def hugging_face() -> Callable[[Tokenizer], tokenizers.Tokenizer]:
    """Builds what `tokenizers` makes of the same merges and pattern, without our files."""

    def build(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
        pairs = [(to_characters(left), to_characters(right)) for left, right in tokenizer.merges]
        tokens = sorted(pre_tokenizers.ByteLevel.alphabet()) + [left + right for left, right in pairs]
        peer = tokenizers.Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, pairs))
        peer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(tokenizer.pattern), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        peer.decoder = decoders.ByteLevel()
        peer.add_special_tokens(list(tokenizer.special_tokens))
        return peer

    return build


@pytest.fixture(scope="session")
def tiktoken_encoding() -> Callable[[Tokenizer], tiktoken.Encoding]:
    """Builds what `tiktoken` makes of the same tokens and pattern: its ranks are our ids."""

    def build(tokenizer: Tokenizer) -> tiktoken.Encoding:
        order = sorted(range(256), key=lambda byte: to_characters(bytes([byte])))
        tokens = [bytes([byte]) for byte in order] + [left + right for left, right in tokenizer.merges]
        return tiktoken.Encoding(
            "peer",
            pat_str=tokenizer.pattern,
            mergeable_ranks={token: number for number, token in enumerate(tokens)},
            special_tokens=tokenizer.special_tokens,
        )

    return build


@pytest.fixture(scope="session")
def fragments() -> list[str]:
    """Strings at which the patterns' alternatives meet."""
    return [
        *"'sStTſ .,/!_-aAbBéßΩ中文のя٣½1२🙂",
        "'re",
        "'LL",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "\x1c",
        "\x85",
        "\u00a0",
        "e\u0301",
    ]
