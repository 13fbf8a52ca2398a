import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.data import DocumentStore, stage
from groundup.data.holdout import Pieces, split
from groundup.errors import UserError

from .conftest import MakeStore


def size(pieces: Pieces) -> int:
    return int((pieces[:, 1] - pieces[:, 0]).sum())


def check_is_a_partition(store: DocumentStore, train: Pieces, held_out: Pieces) -> None:
    """Each byte in exactly one piece, pieces within documents and of whole characters, each side in order."""
    for side in (train, held_out):
        assert side.dtype == np.int64 and side.shape[1] == 2 and len(side) > 0
        assert (side[:, 0] < side[:, 1]).all() and (side[1:, 0] >= side[:-1, 1]).all()
    both = np.concatenate([train, held_out])
    both = both[np.argsort(both[:, 0])]
    assert both[0, 0] == 0 and both[-1, 1] == store.total_bytes
    assert (both[1:, 0] == both[:-1, 1]).all()
    owner = np.searchsorted(store.offsets, both[:, 0], side="right")
    assert (both[:, 1] <= np.asarray(store.offsets)[owner]).all()
    for start, end in both[:500].tolist():
        store.read(start, end).decode()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60_000), min_size=1, max_size=30),
    fraction=st.floats(0, 0.5),
    line=st.integers(5, 3000),
    seed=st.integers(0, 2**32),
)
def test_a_split_is_a_partition_of_about_the_size_asked_for(
    tmp_path: Path, lengths: list[int], fraction: float, line: int, seed: int
) -> None:
    path = tmp_path / "a.txt"
    with path.open("w") as file:
        for length in lengths:
            document = ("é漢x" * (length // 3 + 1))[:length]
            file.write("\n".join(document[at : at + line] for at in range(0, length, line)) + "<|endoftext|>")
    store = stage([str(path)], tmp_path / "store", split="endoftext")
    min_bytes = max(1, min(65536, store.total_bytes // 4))
    if store.total_bytes < 64:
        return
    train, held_out = split(store, fraction, min_bytes, seed=seed)
    check_is_a_partition(store, train, held_out)
    target = max(fraction * store.total_bytes, min_bytes)
    section = min(max(16 << 10, target / 4 + 1), store.total_bytes / 8)
    assert target <= size(held_out) <= target + 1.25 * section + 4


def test_short_documents_stay_whole(make_store: MakeStore) -> None:
    store = make_store(*(b"document %d, a short one\n" % number * 20 for number in range(600)))
    train, held_out = split(store, 0.1, 1000, seed=0)
    check_is_a_partition(store, train, held_out)
    assert len(train) + len(held_out) == len(store)
    assert set(np.concatenate([train, held_out])[:, 0].tolist()) == set(store.offsets[:-1].tolist())


def test_a_single_long_file_has_a_held_out_part_cut_at_line_breaks(make_store: MakeStore) -> None:
    rng = random.Random(0)
    store = make_store("\n".join("é" * rng.randint(10, 200) for _ in range(20_000)).encode())
    train, held_out = split(store, 0.05, seed=3)
    check_is_a_partition(store, train, held_out)
    assert 2 <= len(held_out) <= 5
    assert len(train) <= len(held_out) + 1  # neighbouring sections are one piece
    for start in held_out[:, 0].tolist():
        assert start == 0 or store.read(start - 1, start) == b"\n"


def test_the_seed_decides(make_store: MakeStore) -> None:
    store = make_store(*(b"%d" % number * 500 for number in range(1000)))
    first, again, other = (split(store, 0.02, 1000, seed=seed)[1].tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_a_corpus_that_is_too_small_is_told_the_cure(make_store: MakeStore) -> None:
    store = make_store(b"x" * 100_000)
    with pytest.raises(UserError, match=r"100000 bytes, too few to hold out 65536 .*--set data.holdout_bytes=N"):
        split(store, seed=0)
    train, held_out = split(store, min_bytes=50_000, seed=0)
    check_is_a_partition(store, train, held_out)


def test_what_cannot_be_cut_is_too_small(make_store: MakeStore) -> None:
    with pytest.raises(UserError, match="4 bytes, too few"):
        split(make_store("😀".encode()), min_bytes=1, seed=0)


@pytest.mark.parametrize(("fraction", "min_bytes"), [(-0.1, 1), (0.6, 1), (0.1, 0)])
def test_impossible_sizes_are_refused(make_store: MakeStore, fraction: float, min_bytes: int) -> None:
    with pytest.raises(UserError, match="cannot hold out"):
        split(make_store(b"text" * 100), fraction, min_bytes, seed=0)
