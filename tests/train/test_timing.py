import time
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.train.timing import Timing, repeat, seconds_of

durations = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40)


def test_an_action_is_repeated_for_the_time_and_as_often_as_asked() -> None:
    calls: list[float] = []
    timing = repeat(lambda: calls.append(time.perf_counter()), 0.02, warmups=3, least=2)
    assert len(calls) == 3 + len(timing.seconds)
    assert calls[-1] - calls[3] + timing.seconds[-1] > 0.01
    calls.clear()
    assert len(repeat(lambda: calls.append(0.0), 0.0, warmups=0, least=5).seconds) == 5
    assert len(calls) == 5


def test_what_is_timed_is_the_action() -> None:
    assert 0.01 <= seconds_of(lambda: time.sleep(0.01)) < 10
    timing = repeat(lambda: time.sleep(0.002), 0.0, least=3)
    assert timing.least >= 0.002


@given(durations)
def test_median_least_and_spread(seconds: list[float]) -> None:
    timing = Timing(tuple(seconds))
    assert timing.least == min(seconds) <= timing.median <= max(seconds)
    assert sum(value <= timing.median for value in seconds) >= len(seconds) / 2
    assert 0 <= timing.spread * timing.median <= (max(seconds) - min(seconds)) * (1 + 1e-9)


@given(durations, st.floats(0.01, 100))
def test_the_spread_is_a_share(seconds: list[float], factor: float) -> None:
    scaled = Timing(tuple(value * factor for value in seconds))
    assert scaled.spread == pytest.approx(Timing(tuple(seconds)).spread, rel=1e-6, abs=1e-9)
    assert Timing((seconds[0],) * 7).spread == 0


def test_one_disturbed_repeat_moves_nothing() -> None:
    steady = [1.0, 1.01, 0.99, 1.02, 0.98]
    disturbed = Timing((*steady, 60.0))
    assert disturbed.median == pytest.approx(mean(steady), rel=0.02)
    assert disturbed.spread < 0.05
