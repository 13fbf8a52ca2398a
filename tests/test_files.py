import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.files import cache_folder, fingerprint, folder_atomically, sha256, write_atomically, write_json

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


class _Fault(OSError):
    """What a full disk or a pulled plug does to a call."""


@pytest.fixture
def fail_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str, int], None]:
    """Make the n-th call (0-based) of an operation of the system fail; those before it act."""

    def arrange(owner: Any, name: str, number: int) -> None:
        real, calls = getattr(owner, name), [0]

        def call(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == number + 1:
                raise _Fault(name)
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    return arrange


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- files ---


@pytest.mark.parametrize("content", ["text 中\n", b"\x00\xff"])
def test_a_file_is_written_whole(tmp_path: Path, content: str | bytes) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    write_atomically(file, content)
    assert file.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert _names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("owner", "name"), [(os, "fsync"), (Path, "write_bytes"), (Path, "replace")], ids=["fsync", "write", "rename"]
)
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, fail_at: Callable[[Any, str, int], None], owner: Any, name: str
) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    fail_at(owner, name, 0)
    with pytest.raises(_Fault):
        write_atomically(file, "new")
    assert file.read_text() == "old"
    assert _names(tmp_path) == ["file"]


def test_what_json_cannot_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        write_json(file, {"a": object()})
    assert json.loads(file.read_text()) == {"a": 1}
    assert _names(tmp_path) == ["file.json"]


@given(_JSON)
def test_json_comes_back(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "value.json"
    write_json(file, value)
    assert json.loads(file.read_text("utf-8")) == value


# --- folders ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`parent/folder`, which holds an old file."""
    folder = tmp_path / "parent" / "folder"
    folder.mkdir(parents=True)
    (folder / "old").write_text("old")
    return folder


def _fill(folder: Path) -> None:
    with folder_atomically(folder) as temporary:
        (temporary / "new").write_text("new")
        (temporary / "inner").mkdir()
        (temporary / "inner" / "file").write_text("file")


def test_a_new_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "not" / "yet" / "there"
    with folder_atomically(target) as temporary:
        (temporary / "file").touch()
        assert not target.exists()
        assert temporary.parent == target.parent  # a rename cannot leave the file system
    assert _names(target) == ["file"]
    assert _names(target.parent) == ["there"]


def test_a_folder_is_replaced_as_a_whole(folder: Path) -> None:
    _fill(folder)
    assert _names(folder) == ["inner", "new"]
    assert _names(folder.parent) == ["folder"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_while_filling_leaves_the_old_folder(folder: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), folder_atomically(folder) as temporary:
        (temporary / "new").write_text("new")
        raise error
    assert _names(folder) == ["old"]
    assert _names(folder.parent) == ["folder"]


@pytest.mark.parametrize(
    ("owner", "name", "number"),
    [
        *((os, "fsync", number) for number in range(5)),
        (Path, "replace", 0),
        (Path, "replace", 1),
    ],
)
def test_a_fault_leaves_the_old_folder_or_the_new(
    folder: Path, fail_at: Callable[[Any, str, int], None], owner: Any, name: str, number: int
) -> None:
    fail_at(owner, name, number)
    with pytest.raises(_Fault):
        _fill(folder)
    assert _names(folder) in (["old"], ["inner", "new"])
    assert _names(folder.parent) == ["folder"]


def test_what_a_killed_process_with_the_same_id_left_is_no_obstacle(folder: Path) -> None:
    for suffix in ("tmp", "old"):
        left = folder.with_name(f".folder.{os.getpid()}.{suffix}")
        left.mkdir()
        (left / "file").touch()
    _fill(folder)
    assert _names(folder) == ["inner", "new"]


# --- names and hashes ---


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    for content in (b"", b"abc", os.urandom(3 << 20)):
        (tmp_path / "file").write_bytes(content)
        assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def _reordered(value: Any) -> Any:
    """The same value with the keys of every object in the opposite order."""
    if isinstance(value, dict):
        return {key: _reordered(value[key]) for key in reversed(value)}
    return [_reordered(item) for item in value] if isinstance(value, list) else value


@given(_JSON)
def test_fingerprints_do_not_depend_on_the_order_of_keys_or_on_json(value: Any) -> None:
    name = fingerprint(value)
    assert len(name) == 16
    assert set(name) <= set("0123456789abcdef")
    assert fingerprint(_reordered(value)) == name
    assert fingerprint(json.loads(json.dumps(value))) == name


@given(_JSON, _JSON)
def test_other_values_have_other_fingerprints(left: Any, right: Any) -> None:
    """As JSON tells them apart, for which 1, 1.0 and true are three values."""
    same = json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
    assert (fingerprint(left) == fingerprint(right)) == same


def test_file_names_that_are_not_utf8_have_fingerprints(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    (tmp_path / name).write_text("text")
    assert fingerprint(str(next(tmp_path.iterdir()))) != fingerprint("caf.txt")


def test_the_cache_goes_where_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GROUNDUP_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("GROUNDUP_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "groundup"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "groundup"


def test_what_is_no_ordinary_file_is_not_written_over(tmp_path: Path) -> None:
    """As root, a rename would put a file in the place of /dev/null."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for target in (pipe, tmp_path):
        with pytest.raises(UserError, match="not an ordinary file"):
            write_atomically(target, "text")
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
