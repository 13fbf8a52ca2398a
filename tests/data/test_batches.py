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
    batches = Batches(shards, seed=3, context=CONTEXT, batch_size=1)
    expected = expected_windows(shards)
    assert len(expected) == batches.num_windows == (shards.num_tokens - 1) // CONTEXT
    orders = []
    for epoch in range(3):
        steps = range(epoch * batches.num_windows, (epoch + 1) * batches.num_windows)
        order = [batches.windows(step)[0].tolist() for step in steps]
        assert sorted(order) == expected
        orders.append(order)
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_batches_are_int64_and_cross_epochs_without_a_gap(shards: Shards) -> None:
    one = Batches(shards, seed=3, context=CONTEXT, batch_size=1)
    size = one.num_windows + 7  # each batch holds more than an epoch
    batch = Batches(shards, seed=3, context=CONTEXT, batch_size=size).windows(1)
    assert batch.shape == (size, CONTEXT + 1) and batch.dtype == np.int64
    assert (batch == np.concatenate([one.windows(size + row) for row in range(size)])).all()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(step=st.integers(0, 10**9), batch_size=st.integers(1, 6), num_ranks=st.integers(1, 5))
def test_ranks_share_the_order_of_a_single_one(shards: Shards, step: int, batch_size: int, num_ranks: int) -> None:
    alone = Batches(shards, seed=1, context=CONTEXT, batch_size=batch_size * num_ranks)
    shared = Batches(shards, seed=1, context=CONTEXT, batch_size=batch_size)
    parts = [shared.windows(step, rank, num_ranks) for rank in range(num_ranks)]
    assert (np.concatenate(parts) == alone.windows(step)).all()


def test_a_batch_is_a_pure_function_of_seed_and_step(shards: Shards) -> None:
    first = Batches(shards, seed=1, context=CONTEXT, batch_size=16)
    later = [first.windows(step) for step in range(5)]
    again = Batches(Shards.open(shards.folder), seed=1, context=CONTEXT, batch_size=16)
    assert (again.windows(4) == later[4]).all() and (again.windows(0) == later[0]).all()
    other = Batches(shards, seed=2, context=CONTEXT, batch_size=16)
    assert (other.windows(0) != later[0]).any()


def test_epochs_are_counted(shards: Shards) -> None:
    batches = Batches(shards, seed=0, context=CONTEXT, batch_size=4)
    assert batches.epoch(0) == 0
    assert batches.epoch(batches.num_windows) == 4
    assert batches.epoch(batches.num_windows, num_ranks=2) == 8
    assert 0 < batches.epoch(1) < 1


def test_one_window_is_enough_and_less_is_an_error(shards: Shards) -> None:
    assert Batches(shards, 0, context=shards.num_tokens - 1, batch_size=1).num_windows == 1
    with pytest.raises(UserError, match=f"{shards.num_tokens} tokens are too few for one window"):
        Batches(shards, 0, context=shards.num_tokens, batch_size=1)
