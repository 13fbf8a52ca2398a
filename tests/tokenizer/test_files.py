from collections.abc import Callable
from pathlib import Path

import pytest

from groundup.errors import UserError
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.files import read_definition, write_definition
from groundup.tokenizer.rank_file import write_file

from .test_gpt2_files import write_pair


@pytest.fixture
def tokenizer(trained: Callable[[str], Tokenizer]) -> Tokenizer:
    return trained("gpt2")


def test_each_format_is_recognised_by_its_content(tokenizer: Tokenizer, tmp_path: Path) -> None:
    definition = tokenizer._definition
    for folder in ("json", "pair", "ranks"):
        (tmp_path / folder).mkdir()
    write_definition(tmp_path / "json", definition)
    vocabulary, merges = write_pair(tmp_path / "pair", tokenizer)
    write_file(tmp_path / "ranks" / "own.tiktoken", definition)
    moved = (tmp_path / "json" / "tokenizer.json").rename(tmp_path / "json" / "other name")
    for path in (moved, tmp_path / "pair", vocabulary, merges):
        assert read_definition(path) == definition
    names = list(tokenizer.special_tokens)
    (tmp_path / "ranks" / "tokenizer.model").write_bytes((tmp_path / "ranks" / "own.tiktoken").read_bytes())
    for path in (tmp_path / "ranks", tmp_path / "ranks" / "own.tiktoken", tmp_path / "ranks" / "tokenizer.model"):
        assert read_definition(path, "gpt2", names) == definition


def test_of_a_folders_files_tokenizer_json_is_taken(
    tokenizer: Tokenizer, trained: Callable[[str], Tokenizer], tmp_path: Path
) -> None:
    write_pair(tmp_path, trained("cl100k"))
    assert read_definition(tmp_path) == read_definition(tmp_path / "vocab.json")
    write_definition(tmp_path, tokenizer._definition)
    assert read_definition(tmp_path) == tokenizer._definition


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", b"not JSON"),
        ("tokenizer.json", b"\xff\xfe"),
        ("tokenizer.json", b""),
        ("tokenizer.json", b"[]"),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"[" * 100_000),
        ("vocab.json", b"{}"),
        ("x.txt", b"some text"),
    ],
)
def test_other_files_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=str(tmp_path)) as caught:
        read_definition(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "tokenizer.json", tmp_path / "x.tiktoken"):
        with pytest.raises(UserError, match=r"cannot read .*No such file"):
            read_definition(path)
