from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare

from groundup.data.partners import WithPartners
from groundup.errors import UserError


class _Order:
    """Windows of three tokens that say which window it is, in an order of each epoch's own."""

    def __init__(self, num_windows: int):
        self.num_windows = num_windows

    @cache  # noqa: B019 - for a test
    def epoch(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng(epoch).permutation(self.num_windows)

    def windows(self, first: int, count: int) -> NDArray[np.int64]:
        places = (divmod(place, self.num_windows) for place in range(first, first + count))
        return np.stack([3 * self.epoch(epoch)[within] + np.arange(3) for epoch, within in places])


@settings(max_examples=50, deadline=None)
@given(
    num_windows=st.integers(2, 700),
    first=st.integers(0, 10**9),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
)
def test_a_partner_is_another_window_whatever_the_batches(num_windows: int, first: int, sizes: list[int]) -> None:
    source = _Order(num_windows)
    paired = WithPartners(source, num_windows, seed=3)
    whole = paired.windows(first, sum(sizes))
    assert whole.shape == (sum(sizes), 6)
    assert whole.dtype == np.int64
    assert (whole[:, :3] == source.windows(first, sum(sizes))).all()
    assert (whole[:, 3] != whole[:, 0]).all()
    assert (whole[:, 3:] == whole[:, 3:4] + np.arange(3)).all()
    starts = first + np.cumsum([0, *sizes[:-1]])
    parts = [paired.windows(int(start), size) for start, size in zip(starts, sizes, strict=True)]
    assert (np.concatenate(parts) == whole).all()


def test_every_other_window_is_as_likely() -> None:
    """Chi-square over epochs, for one window and its nine others."""
    rows = WithPartners(_Order(10), 10, seed=0).windows(0, 20_000)
    partners = rows[rows[:, 0] == 0][:, 3] // 3
    counts = np.bincount(partners, minlength=10)
    assert counts[0] == 0
    assert chisquare(counts[1:]).pvalue > 1e-4


def test_the_seed_decides() -> None:
    first, again, other = (WithPartners(_Order(100), 100, seed).windows(0, 50) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first[:, 3:] != other[:, 3:]).any()


def test_a_single_window_has_no_partner() -> None:
    with pytest.raises(UserError, match="two windows or more"):
        WithPartners(_Order(1), 1, seed=0)
