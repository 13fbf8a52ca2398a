import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer, GPT2Tokenizer

from groundup.errors import UserError
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.alphabet import to_characters
from groundup.tokenizer.gpt2_files import read_files

END = "<|endoftext|>"


def write_pair(folder: Path, tokenizer: Tokenizer) -> tuple[Path, Path]:
    """As GPT-2's own release has them: special tokens stand in the vocabulary."""
    vocabulary = {to_characters(token): number for token, number in tokenizer._definition.ids.items()}
    vocabulary |= tokenizer.special_tokens
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    lines = [f"{to_characters(left)} {to_characters(right)}" for left, right in tokenizer.merges]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines, ""]), "utf-8")
    return folder / "vocab.json", folder / "merges.txt"


@pytest.fixture
def pair(trained: Callable[[str], Tokenizer], tmp_path: Path) -> tuple[Path, Path]:
    return write_pair(tmp_path, trained("gpt2"))


def test_the_pair_gives_the_ids_of_transformers(
    pair: tuple[Path, Path], trained: Callable[[str], Tokenizer], texts: dict[str, str]
) -> None:
    definition = read_files(*pair)
    assert definition == trained("gpt2")._definition
    peer = GPT2Tokenizer.from_pretrained(pair[0].parent)
    for text in (*texts.values(), f"a{END} b"):
        assert Tokenizer(definition).encode(text, allowed_special="all") == peer(text)["input_ids"]


def test_what_stands_beside_is_read(pair: tuple[Path, Path], tmp_path: Path) -> None:
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "added_tokens_decoder": {"2000": {"content": "<|tool|>", "special": False}},
        "eos_token": {"__type": "AddedToken", "content": END},
        "pad_token": None,
        "chat_template": "{{ messages }}",
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "added_tokens.json").write_text('{"<|unused|>": 2000}')
    definition = read_files(*pair)
    assert definition.special_tokens == {END: 1998, "<|im_start|>": 1999, "<|tool|>": 2000}
    assert definition.compose
    assert definition.usage.roles == {"eos_token": END}
    assert definition.usage.spoken_tokens == {"<|tool|>"}
    assert definition.usage.chat_template == "{{ messages }}"
    peer = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("e\u0301 12345\n\n it's<|tool|>", "  x"):
        assert Tokenizer(definition).encode(text, allowed_special="all") == peer(text)["input_ids"]


def test_tokens_of_older_folders_are_added(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "added_tokens.json").write_text('{"<|extra|>": 2000}')
    tokenizer = Tokenizer(read_files(*pair))
    assert tokenizer.special_tokens == {END: 1998, "<|im_start|>": 1999, "<|extra|>": 2000}
    peer = GPT2Tokenizer.from_pretrained(tmp_path)
    text = f"a<|extra|>b {END}"
    assert tokenizer.encode(text, allowed_special="all") == peer(text)["input_ids"]


def test_a_space_in_front(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    assert read_files(*pair).add_prefix_space


def test_the_pattern_is_the_callers_if_given(pair: tuple[Path, Path], trained: Callable[[str], Tokenizer]) -> None:
    assert read_files(*pair, "o200k").pattern == trained("o200k").pattern


def test_an_unknown_class_needs_a_pattern(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "QwenTokenizer"}')
    with pytest.raises(
        UserError, match="QwenTokenizer does not tell how text is cut; did you mean 'Qwen2Tokenizer'"
    ):
        read_files(*pair)
    assert read_files(*pair, "gpt2").pattern


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("merges.txt", "a b\na b c\n", "line 2: 'a b c' is not two tokens"),
        ("merges.txt", "a 中\n", "line 1: .* is not two tokens"),
        ("merges.txt", "a q\n", r"lacks a token of the merge b'a' \+ b'q'"),
        ("merges.txt", None, "cannot read .*vocab.json needs merges.txt beside it"),
        ("vocab.json", None, "cannot read"),
        ("vocab.json", '{"a": 0}', "lacks 255 of the 256 bytes"),
        ("vocab.json", "[1]", "are not GPT-2's files"),
        ("added_tokens.json", "[1]", "is no JSON object"),
        (
            "tokenizer_config.json",
            '{"added_tokens_decoder": {"2000": {"content": "<mask>", "lstrip": true}}}',
            "its added token '<mask>' sets lstrip",
        ),
    ],
)
def test_spoilt_files_are_refused(
    pair: tuple[Path, Path], tmp_path: Path, file: str, content: str | None, message: str
) -> None:
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content, "utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read_files(*pair)
    assert "\n" not in str(caught.value)
