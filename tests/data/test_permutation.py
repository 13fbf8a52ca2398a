import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.data.permutation import permuted


@given(st.integers(1, 3000), st.integers(0, 2**40), st.integers(0, 100))
def test_every_number_comes_once(length: int, seed: int, epoch: int) -> None:
    values = permuted(np.arange(length), length, (seed, epoch))
    assert values.dtype == np.int64 and sorted(values.tolist()) == list(range(length))


@given(st.lists(st.integers(0, 10**12 - 1), max_size=20))
def test_an_entry_does_not_depend_on_those_asked_with_it(positions: list[int]) -> None:
    together = permuted(np.array(positions, np.int64), 10**12, (1, 2))
    alone = [permuted(np.array([position]), 10**12, (1, 2))[0] for position in positions]
    assert together.tolist() == alone
    assert ((together >= 0) & (together < 10**12)).all()


@pytest.mark.parametrize("length", [10, 256, 1000, 70_000])
def test_it_looks_random(length: int) -> None:
    """Few fixed points, few neighbours that stay neighbours, every place equally likely for a number."""
    orders = np.array([permuted(np.arange(length), length, (0, epoch)) for epoch in range(30)])
    fixed = (orders == np.arange(length)).sum()
    neighbours = (np.diff(orders, axis=1) == 1).sum()
    for count in (fixed, neighbours):  # both are nearly Poisson with mean 1 an order
        assert 8 < count < 60
    places = np.array([permuted(np.array([length // 3]), length, (1, key))[0] for key in range(2000)])
    halves, tenths = np.bincount(places * 2 // length), np.bincount(places * 10 // length)
    assert abs(halves[0] - 1000) < 150 and (abs(tenths - 200) < 80).all()
    assert len({tuple(order.tolist()) for order in orders}) == 30
