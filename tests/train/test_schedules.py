import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.train.schedules import SCHEDULES, share_of_peak

_NAMES = st.sampled_from(sorted(SCHEDULES))
_WARMUP = st.floats(0, 0.9)
_FINAL = st.floats(0, 1)


@given(_NAMES, _WARMUP, _FINAL)
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
    ],
)
def test_their_shapes(schedule: str, shares: list[float]) -> None:
    found = [share_of_peak(schedule, quarter / 4, 0.0, 0.0) for quarter in range(5)]
    assert found == pytest.approx(shares)
    assert share_of_peak("wsd", 0.9, 0.0, 0.0) == pytest.approx(0.5)


def test_the_decay_goes_from_the_peak_to_the_final_rate() -> None:
    assert share_of_peak("linear", 0.55, 0.1, 0.2) == pytest.approx(0.6)
    assert share_of_peak("linear", 1.5, 0.1, 0.2) == pytest.approx(0.2)
