import hashlib
import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.data import DocumentStore, stage, text
from groundup.errors import UserError

from .conftest import MakeStore


def documents_of(store: DocumentStore) -> list[bytes]:
    return [store[index] for index in range(len(store))]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.lists(st.binary().filter(lambda data: b"<|endoftext|>" not in data), min_size=1))
def test_the_documents_are_those_of_the_input(tmp_path: Path, documents: list[bytes]) -> None:
    first = b"longer than what is looked at to tell text from binary " * 200
    path = tmp_path / "a.txt"
    path.write_bytes(first + b"".join(b"<|endoftext|>x" + document for document in documents))
    store = stage([str(path)], tmp_path / "store", split="endoftext")
    assert documents_of(store) == [first, *(b"x" + document for document in documents)]


def test_documents_longer_than_a_part_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "PART_BYTES", 1000)
    monkeypatch.setattr(text, "READ_BYTES", 300)
    long = "".join(f"line {number} é\n" for number in range(2000)).encode()
    for name, data in (("a.txt", long), ("b.txt", b"short"), ("c.txt", b" \n" * 4000)):
        (tmp_path / name).write_bytes(data)
    assert documents_of(stage([str(tmp_path)], tmp_path.with_name("store"))) == [long, b"short"]


def test_the_manifest_tells_what_was_staged(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"some text")
    (folder / "b.bin").write_bytes(b"\0\1")
    told: list[str] = []
    done: list[int] = []
    store = stage([str(folder), "wiki-es"], tmp_path / "store", warn=told.append, progress=done.append)
    content = (store.folder / "text.bin").read_bytes()
    assert store.manifest["bytes"] == store.total_bytes == len(content) == done[-1]
    assert store.manifest["sha256"] == store.sha256 == hashlib.sha256(content).hexdigest()
    assert store.manifest["documents"] == len(store) > 6000
    assert store.manifest["sources"] == [str(folder), "wiki-es"]
    assert store.manifest["skipped_files"] == [str(folder / "b.bin")]
    assert store.manifest["truncated"] is False
    assert len(store.manifest["attribution"]) == 1 and "CC BY-SA" in store.manifest["attribution"][0]
    assert len(told) == 1 and "skipped 1 file" in told[0] and "b.bin" in told[0]
    assert done == sorted(done)


def test_a_limit_keeps_a_seeded_sample_of_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(100):
        (folder / f"{number:03d}.txt").write_text(f"{number:03d} " * 25)
    stores = [stage([str(folder)], tmp_path / f"s{seed}", limit_bytes=1000, seed=seed) for seed in (0, 0, 1)]
    first, again, other = map(documents_of, stores)
    assert first == again != other
    assert stores[0].total_bytes == 1000 and len(first) == 10 and stores[0].manifest["truncated"]
    assert max(first) > b"050"
    assert not stage([str(folder)], tmp_path / "all", limit_bytes=10_000).manifest["truncated"]


def test_a_limit_cuts_the_last_document_at_a_line_break(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one line\n" * 50)
    assert documents_of(stage([str(path)], tmp_path / "store", limit_bytes=100)) == [b"one line\n" * 11]


def test_standard_input_is_staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": BytesIO(b"from a pipe")}))
    assert documents_of(stage(["-"], tmp_path / "store")) == [b"from a pipe"]


@pytest.mark.parametrize("content", [b"", b" \n\t\n"])
def test_no_text_is_an_error_and_leaves_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="there is no text in it"):
        stage([str(path)], tmp_path / "store")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_limit_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="limit_bytes = 0"):
        stage(["wiki-en"], tmp_path / "store", limit_bytes=0)


def test_a_damaged_store_is_noticed(make_store: MakeStore) -> None:
    store = make_store(b"some text", b"more")
    (store.folder / "text.bin").write_bytes(b"some tex")
    with pytest.raises(UserError, match="damaged"):
        DocumentStore.open(store.folder)
    (store.folder / "offsets.npy").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="not a staged corpus"):
        DocumentStore.open(store.folder)
    with pytest.raises(UserError, match="not a staged corpus"):
        DocumentStore.open(store.folder / "nothing")


def test_an_index_beyond_the_documents_is_an_error(make_store: MakeStore) -> None:
    store = make_store(b"one", b"two")
    assert store[1] == b"two"
    with pytest.raises(IndexError):
        store[2]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.text(alphabet="aé漢😀\n", min_size=1), st.integers(1, 20))
def test_segments_are_whole_characters_and_join_to_the_range(tmp_path: Path, characters: str, size: int) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" + characters.encode() + b"x")
    store = stage([str(path)], tmp_path / "store")
    size = max(size, 4)
    segments = list(store.segments(0, store.total_bytes, size))
    assert b"".join(store.read(start, end) for start, end in segments) == store[0]
    for start, end in segments:
        assert 0 < end - start <= size
        store.read(start, end).decode()


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    script = """
import json, resource, sys
from pathlib import Path
from groundup.data import compressibility, holdout, sample, stage
store = stage([sys.argv[1]], Path(sys.argv[2]))
holdout.split(store, seed=0)
sum(map(len, sample(store, 1_000_000, 0)))
compressibility(store, 0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    line = b"A line of text like any other, and another one \xc3\xa9"
    peaks = []
    for megabytes in (24, 240):
        path = tmp_path / f"{megabytes}.txt"
        with path.open("wb") as file:  # half of it without any line break
            for _ in range(megabytes // 2):
                file.write(line * (1_000_000 // len(line)))
            for _ in range(megabytes // 2):
                file.write((line + b"\n") * (1_000_000 // len(line)))
        command = [sys.executable, "-c", script, str(path), str(tmp_path / "store")]
        peaks.append(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))
    assert peaks[1] < peaks[0] + 16_000  # kilobytes
