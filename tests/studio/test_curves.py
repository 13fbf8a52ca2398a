import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.studio.curves import rounded, smooth, thin

finite = st.floats(-1e6, 1e6)


@given(st.lists(finite, max_size=300), st.integers(4, 60))
def test_thinning_keeps_the_ends_and_the_extremes(values: list[float], most: int):
    array = np.array(values, dtype=np.float64)
    kept = thin(array, most)
    assert len(kept) <= max(most, 0)
    assert list(kept) == sorted(set(kept))
    if values:
        assert (kept[0], kept[-1]) == (0, len(values) - 1)
        assert (array[kept].min(), array[kept].max()) == (array.min(), array.max())
    if len(values) <= most:
        assert list(kept) == list(range(len(values)))


@given(st.lists(finite, min_size=1, max_size=400))
def test_smoothing_is_the_mean_of_a_window_around_each_value(values: list[float]):
    smoothed = smooth(np.array(values))
    widest = -(-len(values) // 50)
    for place, value in enumerate(smoothed):
        reach = min(widest, place // 3)
        window = values[place - reach : place + reach + 1]
        assert value == pytest.approx(sum(window) / len(window), rel=1e-6, abs=1e-5)


def test_what_is_not_finite_becomes_a_gap():
    assert rounded([1.23456789, float("nan"), float("inf"), 3e-12]) == [1.234568, None, None, 3e-12]
