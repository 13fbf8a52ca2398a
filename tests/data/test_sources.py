import gzip
import os
from io import BytesIO
from pathlib import Path

import pytest

from groundup.data.sources import Reading, fingerprint_sources, read
from groundup.errors import UserError


def documents_of(reading: Reading) -> list[bytes]:
    return [part.data for part in reading]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Text in several files and folders, hidden files, and binaries among them."""
    root = tmp_path / "texts"
    for name, content in {
        "b.txt": b"b",
        "a.md": b"a",
        "sub/c.jsonl": b'{"text": "c1"}\n{"text": "c2"}\n',
        "sub/deep/d.py.gz": gzip.compress(b"d"),
        "sub/empty.txt": b" \n",
        "sub/image.png": b"\x89PNG\0",
        "old.txt": "é".encode("utf-16"),
        ".hidden.txt": b"no",
        ".git/config": b"no",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def test_a_folder_is_read_in_order_without_hidden_and_binary_files(folder: Path) -> None:
    reading = read([str(folder)])
    assert documents_of(reading) == [b"a", b"b", b"c1", b"c2", b"d"]
    assert reading.skipped == [str(folder / "old.txt"), str(folder / "sub/image.png")]


def test_patterns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert documents_of(read(["[ab].*"])) == [b"a", b"b"]
    assert documents_of(read(["**/*.gz"])) == [b"d"]
    reading = read(["sub/*"])
    assert documents_of(reading) == [b"c1", b"c2"]
    assert reading.skipped == ["sub/image.png"]


def test_sources_come_in_the_given_order_and_a_seed_shuffles_their_files(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number:02d}.txt" for number in range(30)]
    for path in paths:
        path.write_text(path.stem)
    given = [str(path) for path in reversed(paths)]
    in_order = documents_of(read(given))
    assert in_order == [path.stem.encode() for path in reversed(paths)]
    shuffled = documents_of(read(given, shuffle_seed=1))
    assert shuffled == documents_of(read(given, shuffle_seed=1))
    assert shuffled != in_order and shuffled != documents_of(read(given, shuffle_seed=2))
    assert sorted(shuffled) == sorted(in_order)


def test_a_file_with_magic_characters_in_its_name_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a[1].txt"
    path.write_text("text")
    assert documents_of(read([str(path)])) == [b"text"]


def test_split_applies_to_text_files_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": BytesIO(b"c\n\nd")}))
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\n\n\nb")
    assert documents_of(read([str(path), "-"], split="blank-lines")) == [b"a\n", b"b", b"c\n", b"d"]


def test_a_binary_file_that_is_named_is_an_error(folder: Path) -> None:
    with pytest.raises(UserError, match="binary"):
        documents_of(read([str(folder / "sub/image.png")]))


def test_a_missing_file_names_the_nearest(folder: Path) -> None:
    with pytest.raises(UserError, match=r"no such file, folder or corpus; did you mean '.*sub/c\.jsonl'"):
        read([str(folder / "sub/c.json")])


def test_a_misspelt_corpus_names_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such file, folder or corpus; did you mean 'wiki-en'"):
        read(["wiki_en"])
    with pytest.raises(UserError, match="known: python, wiki-en, wiki-es, wiki-fr"):
        read(["zzzzzz"])
    with pytest.raises(UserError, match="'': no such file"):
        read([""])


def test_a_missing_owner_slash_name_suggests_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="write hf:roneneldan/TinyStories"):
        read(["roneneldan/TinyStories"])


def test_nothing_found_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text("x")
    with pytest.raises(UserError, match="the folder holds no files"):
        read([str(tmp_path)])
    with pytest.raises(UserError, match="no file matches this pattern"):
        read([str(tmp_path / "*.txt")])


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    link = tmp_path / "loop"
    link.symlink_to(link)
    with pytest.raises(UserError, match="loop"):
        documents_of(read([str(link)]))


def test_a_fingerprint_follows_paths_sizes_times_and_options(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    sources = [str(tmp_path)]
    first = fingerprint_sources(sources, split="none")
    assert first is not None and first == fingerprint_sources(sources, split="none")
    others = [fingerprint_sources(sources, split="blank-lines"), fingerprint_sources(["wiki-en"], split="none")]
    os.utime(path, ns=(1, 1))
    others.append(fingerprint_sources(sources, split="none"))
    path.write_text("longer")
    os.utime(path, ns=(1, 1))
    others.append(fingerprint_sources(sources, split="none"))
    (tmp_path / "b.txt").write_text("another")
    others.append(fingerprint_sources(sources, split="none"))
    assert None not in others
    assert len({first, *others}) == 6


def test_what_cannot_be_known_beforehand_has_no_fingerprint(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for source in ("-", "hf:owner/name", str(pipe)):
        assert fingerprint_sources(["wiki-en", source]) is None
