import bz2
import random
from pathlib import Path

import pytest

from groundup.data import DocumentStore, compressibility, holdout, sample, stage

from .conftest import MakeStore


def words(seed: int, num_bytes: int, line_bytes: int = 70) -> bytes:
    rng = random.Random(seed)
    lines = ("".join(rng.choices("etaoin shrdlué ", k=line_bytes)) for _ in range(num_bytes // line_bytes))
    return "\n".join(lines).encode()


@pytest.fixture
def store(make_store: MakeStore) -> DocumentStore:
    """Short documents, documents around a cell's size, and long ones with and without line breaks."""
    sizes = [*range(300, 3000, 100), 32_768, 32_700, 33_000, 65_536, 400_000]
    documents = [words(number, size) for number, size in enumerate(sizes)]
    return make_store(*documents, words(99, 300_000, line_bytes=300_000), *documents[:10])


def test_a_sample_of_more_than_there_is_gives_every_byte_once(store: DocumentStore) -> None:
    pieces = list(sample(store, 10 * store.total_bytes, seed=1))
    content = store.read(0, store.total_bytes)
    assert sum(map(len, pieces)) == len(content)
    assert sorted(b"".join(pieces)) == sorted(content)
    assert all(0 < len(piece) <= 64 << 10 for piece in pieces)
    documents = {store[index] for index in range(len(store))}
    for piece in pieces:
        piece.decode()
        assert piece in documents or piece in content


def test_a_sample_is_seeded_and_stops_in_time(store: DocumentStore) -> None:
    first, again, other = (list(sample(store, 100_000, seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert 100_000 <= sum(map(len, first)) < 100_000 + (64 << 10)
    assert len(set(first)) == len(first)


def test_excluded_pieces_are_left_out_and_all_else_is_there(store: DocumentStore) -> None:
    train, held_out = holdout.split(store, 0.2, seed=0)
    pieces = list(sample(store, 10 * store.total_bytes, 1, held_out))
    training = b"".join(store.read(start, end) for start, end in train.tolist())
    assert sum(map(len, pieces)) == len(training)
    assert sorted(b"".join(pieces)) == sorted(training)
    for piece in pieces:
        piece.decode()
        assert piece in training


def test_slices_of_long_documents_are_cut_at_line_breaks(make_store: MakeStore) -> None:
    store = make_store(words(0, 200_000))
    slices = list(sample(store, 10**9, seed=0))
    assert len(slices) > 5
    assert sum(not piece.endswith(b"\n") for piece in slices) == 1  # the last line has no break


def test_compressibility_is_that_of_bz2_and_tells_hard_text_from_easy(
    make_store: MakeStore, tmp_path: Path
) -> None:
    text = words(5, 30_000)
    assert compressibility(make_store(text), seed=0) == 8 * len(bz2.compress(text, 9)) / len(text)


def test_compressibility_orders_texts(shared_data: Path, tmp_path: Path) -> None:
    prose = stage([str(shared_data / "pretrain_en/tinyshakespeare.txt")], tmp_path / "prose")
    code = stage(["python"], tmp_path / "code", limit_bytes=2_000_000)
    assert 1.2 < compressibility(code, 0) < compressibility(prose, 0) < 3
    assert compressibility(prose, 0) == compressibility(prose, 0)
