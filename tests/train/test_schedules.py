import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.train.schedules import SCHEDULES, batch_windows, share_of_peak, steps_with_warmup

_NAMES = st.sampled_from(sorted(SCHEDULES))
_FALLING = st.sampled_from(sorted(SCHEDULES.keys() - {"constant"}))
_WARMUP = st.floats(0, 0.9)
_FINAL = st.floats(0, 1)


@given(_FALLING, _WARMUP, _FINAL)
def test_the_end_points(schedule: str, warmup: float, final: float) -> None:
    assert share_of_peak(schedule, 0.0, warmup, final) == (0.0 if warmup > 0 else 1.0)
    assert share_of_peak(schedule, warmup, warmup, final) == pytest.approx(1.0)
    assert share_of_peak(schedule, 1.0, warmup, final) == pytest.approx(final, abs=1e-12)


@given(_NAMES, st.floats(0.01, 0.9), _FINAL, st.floats(0, 1))
def test_there_are_no_jumps(schedule: str, warmup: float, final: float, progress: float) -> None:
    """The steepest slopes: 1 / warm-up, and five for the last fifth of what is left (or pi/2 for the cosine)."""
    steepest = max(1 / warmup, 5 / (1 - warmup))
    here = share_of_peak(schedule, progress, warmup, final)
    near = share_of_peak(schedule, min(1.0, progress + 1e-6), warmup, final)
    assert abs(here - near) <= steepest * 1e-6 * 1.01 + 1e-12


@given(_NAMES, _WARMUP, _FINAL, st.floats(0, 1), st.floats(0, 1))
def test_up_and_then_down(schedule: str, warmup: float, final: float, first: float, second: float) -> None:
    first, second = sorted((first, second))
    earlier, later = (share_of_peak(schedule, progress, warmup, final) for progress in (first, second))
    if second <= warmup:
        assert earlier <= later
    elif first >= warmup:
        assert earlier >= later - 1e-12
        assert later >= final - 1e-12
    assert 0 <= later <= 1 + 1e-12


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("linear", [1, 0.75, 0.5, 0.25, 0]),
        ("cosine", [1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 0]),
        ("wsd", [1, 1, 1, 1, 0]),
        ("trapezoid", [1, 1, 1, 1, 0]),
        ("constant", [1, 1, 1, 1, 1]),
    ],
)
def test_their_shapes(schedule: str, shares: list[float]) -> None:
    found = [share_of_peak(schedule, quarter / 4, 0.0, 0.0) for quarter in range(5)]
    assert found == pytest.approx(shares)
    assert share_of_peak("wsd", 0.9, 0.0, 0.0) == pytest.approx(0.5)


def test_the_decay_goes_from_the_peak_to_the_final_rate() -> None:
    assert share_of_peak("linear", 0.55, 0.1, 0.2) == pytest.approx(0.6)
    assert share_of_peak("linear", 1.5, 0.1, 0.2) == pytest.approx(0.2)


@given(_WARMUP, _FINAL, st.floats(0.01, 1), st.floats(0, 1))
def test_the_trapezoid_by_its_corners(warmup: float, final: float, cooldown: float, progress: float) -> None:
    """(0, 0), (warm-up, 1), (1 - cooldown, 1), (1, final), and straight lines between them."""
    corners = [0.0, warmup, max(warmup, 1 - cooldown), 1.0]
    expected = np.interp(progress, corners, [0.0, 1.0, 1.0, final]) if progress >= warmup else progress / warmup
    for name in ("trapezoid", "wsd"):
        assert share_of_peak(name, progress, warmup, final, cooldown) == pytest.approx(expected, abs=1e-9)


def test_a_constant_rate_warms_up_and_stays() -> None:
    assert [share_of_peak("constant", tenth / 10, 0.2, 0.5) for tenth in (0, 1, 2, 6, 10)] == [0, 0.5, 1, 1, 1]


# --- the batch ---


@pytest.mark.parametrize(
    ("micro_batch", "sizes"),
    [
        (2, [4, 6, 8, 10, 12, 14, 16]),  # by whole micro-batches
        (4, [4, 8, 12, 16]),
        (16, [4, 8, 12, 16]),  # by the first size, where the micro-batch is larger
    ],
)
def test_the_batch_grows_by_units(micro_batch: int, sizes: list[int]) -> None:
    seen = [batch_windows(percent / 100, 16, micro_batch, 0.5, 0.25) for percent in range(101)]
    assert sorted(set(seen)) == sizes
    assert seen == sorted(seen)
    for percent, size in enumerate(seen):
        exact = min(16.0, 16 * (0.25 + 0.75 * percent / 50))
        assert abs(size - exact) <= min(micro_batch, 4) / 2 + 1e-9


@given(st.integers(1, 512), st.integers(1, 512), st.floats(0, 1), st.floats(0.01, 1), st.floats(0, 1))
def test_a_batch_is_never_empty_and_whole_in_the_end(
    batch_size: int, micro_batch: int, warmup: float, start: float, progress: float
) -> None:
    assert 1 <= batch_windows(progress, batch_size, micro_batch, warmup, start) <= batch_size
    assert batch_windows(1.0, batch_size, micro_batch, warmup, start) == batch_size
    assert batch_windows(progress, batch_size, micro_batch, 0.0, start) == batch_size


@pytest.mark.parametrize(("warmup", "start"), [(0.0, 0.25), (0.3, 0.25), (1.0, 0.25), (0.5, 1 / 16)])
def test_more_steps_make_up_for_smaller_batches(warmup: float, start: float) -> None:
    steps = steps_with_warmup(1000, warmup, start)
    seen = sum(batch_windows((step + 0.5) / steps, 64, 4, warmup, start) for step in range(steps))
    assert seen == pytest.approx(64 * 1000, rel=0.005)
