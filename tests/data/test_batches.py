from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.data import Batches, Shards, encode
from groundup.errors import UserError
from groundup.tokenizer import Tokenizer

from .conftest import MakeStore

CONTEXT = 8


@pytest.fixture
def shards(make_store: MakeStore, tokenizer: Tokenizer, tmp_path: Path) -> Shards:
    store = make_store(*(f"the {number} quick brown foxes".encode() for number in range(150)))
    pieces = np.stack([store.offsets[:-1], store.offsets[1:]], axis=1)
    return encode(store, pieces, tokenizer, tmp_path / "shards", name="train")


def expected_windows(shards: Shards) -> list[list[int]]:
    ids = shards.read(0, shards.num_tokens).tolist()
    return sorted(ids[at : at + CONTEXT + 1] for at in range(0, len(ids) - CONTEXT, CONTEXT))


def test_each_window_comes_once_an_epoch_in_an_order_of_its_own(shards: Shards) -> None:
    batches = Batches(shards, seed=3, context=CONTEXT)
    expected = expected_windows(shards)
    assert len(expected) == batches.num_windows == (shards.num_tokens - 1) // CONTEXT
    size = batches.num_windows
    orders = [batches.windows(epoch * size, size).tolist() for epoch in range(3)]
    assert all(sorted(order) == expected for order in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(first=st.integers(0, 10**9), sizes=st.lists(st.integers(1, 500), min_size=1, max_size=5))
def test_stretches_of_any_size_follow_each_other(shards: Shards, first: int, sizes: list[int]) -> None:
    """Batches that grow, ranks that share a step, and batches of more than an epoch: one order for all of them."""
    batches = Batches(shards, seed=1, context=CONTEXT)
    whole = batches.windows(first, sum(sizes))
    assert whole.shape == (sum(sizes), CONTEXT + 1)
    assert whole.dtype == np.int64
    starts = first + np.cumsum([0, *sizes[:-1]])
    parts = [batches.windows(int(start), size) for start, size in zip(starts, sizes, strict=True)]
    assert (np.concatenate(parts) == whole).all()


def test_a_batch_is_a_pure_function_of_seed_and_place(shards: Shards) -> None:
    first = Batches(shards, seed=1, context=CONTEXT)
    later = [first.windows(16 * step, 16) for step in range(5)]
    again = Batches(Shards.open(shards.folder), seed=1, context=CONTEXT)
    assert (again.windows(64, 16) == later[4]).all()
    assert (again.windows(0, 16) == later[0]).all()
    other = Batches(shards, seed=2, context=CONTEXT)
    assert (other.windows(0, 16) != later[0]).any()


def test_epochs_are_counted(shards: Shards) -> None:
    batches = Batches(shards, seed=0, context=CONTEXT)
    assert batches.epoch(0) == 0
    assert batches.epoch(4 * batches.num_windows) == 4
    assert 0 < batches.epoch(1) < 1


def test_one_window_is_enough_and_less_is_an_error(shards: Shards) -> None:
    assert Batches(shards, 0, context=shards.num_tokens - 1).num_windows == 1
    with pytest.raises(UserError, match=f"{shards.num_tokens} tokens are too few for one window"):
        Batches(shards, 0, context=shards.num_tokens)
