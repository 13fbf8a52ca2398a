"""Real texts, strategies' common ground and the independent references: tokenizers, tiktoken."""

import argparse
import inspect
import itertools
import json
import lzma
import tarfile
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tiktoken
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers

from groundup.tokenizer import Tokenizer, native
from groundup.tokenizer.alphabet import to_characters

CHARACTERS = 100_000

Running = typing.ContextManager[None]


@contextmanager
def _running(path: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if path == "plain":
            patch.setattr(native, "module", None)
        else:
            assert native.module.use(path) == path
        try:
            yield
        finally:
            if path != "plain":
                native.module.use(native.instructions)


@pytest.fixture(scope="session")
def instruction_sets() -> list[str]:
    """Those for which the C++ was compiled and that this processor has; skips where there is no C++."""
    if native.module is None:
        pytest.skip("the C++ part of the tokenizer is not here, or not wanted")
    found = [name for name in ("portable", "avx2", "avx512") if native.module.use(name)]
    native.module.use(native.instructions)
    return found


@pytest.fixture(scope="session")
def code_paths(request: pytest.FixtureRequest) -> list[str]:
    """Each way in which this machine can tokenize: plain Python, and the C++ for each of `instruction_sets`."""
    return ["plain", *(request.getfixturevalue("instruction_sets") if native.module else [])]


@pytest.fixture(scope="session")
def running() -> Callable[[str], Running]:
    """`with running(path):` tokenizers that are made and used here take this one of `code_paths`."""
    return _running


@pytest.fixture(params=["plain", "portable", "avx2", "avx512"])
def code_path(request: pytest.FixtureRequest, code_paths: list[str]) -> Iterator[str]:
    """Runs a test on each of `code_paths`."""
    if request.param not in code_paths:
        pytest.skip(f"{request.param} is not here")
    with _running(request.param):
        yield request.param


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
def real_texts(shared_data: Path) -> dict[str, str]:
    """Half a million characters: English, Chinese, both in turn, captions in three languages, and Python."""

    def read(name: str, *fields: str) -> str:
        with lzma.open(shared_data / f"{name}.jsonl.xz", "rt", encoding="utf-8") as file:
            lines = map(json.loads, itertools.islice(file, 2000))
            return "\n".join(line[field] for line in lines for field in fields)

    return {
        "english": read("pretrain_en/books_valid", "text")[:150_000],
        "chinese": read("pretrain_zh/cluecorpus_sample", "text")[:80_000],
        "documentation": read("translation/pydocs_en_zh", "en", "zh")[:120_000],
        "captions": read("translation/multi30k_val_en_de_fr", "en", "de", "fr")[:60_000],
        "code": "".join(map(inspect.getsource, (argparse, tarfile))),
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
