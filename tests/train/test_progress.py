import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.train.progress import Progress, StepProgress, TimeProgress


class _Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def _run(progress: Progress, clock: _Clock, step_seconds: Callable[[int], float]) -> list[float]:
    """Take steps until it is over; the fractions that it gave."""
    fractions: list[float] = []
    while not progress.finished(len(fractions)):
        fractions.append(progress.fraction(len(fractions)))
        clock.now += step_seconds(len(fractions) - 1)
    return fractions


@given(st.integers(1, 500))
def test_steps_are_counted(steps: int) -> None:
    progress = StepProgress(steps)
    taken = [step for step in range(steps + 2) if not progress.finished(step)]
    assert taken == list(range(steps))
    fractions = [progress.fraction(step) for step in taken]
    assert fractions == sorted(set(fractions))
    assert all(0 <= fraction < 1 for fraction in fractions)
    assert fractions[-1] >= 1 - 1 / steps - 1e-9
    assert progress.fraction(steps) == progress.fraction(steps + 5) == 1


def test_a_fraction_is_taken_in_the_middle_of_a_step() -> None:
    """As `Progress.fraction` says."""
    assert [StepProgress(4).fraction(step) for step in range(4)] == [0.125, 0.375, 0.625, 0.875]


@pytest.mark.parametrize("step_seconds", [0.01, 0.17, 0.25])
def test_the_time_is_used_up_and_kept(clock: _Clock, step_seconds: float) -> None:
    began = clock.now
    fractions = _run(TimeProgress(10.0), clock, lambda step: step_seconds)
    assert 10 - 1.01 * step_seconds < clock.now - began < 10 + 0.001
    assert fractions == sorted(fractions)
    assert fractions[0] < 0.01
    assert 1 - 2 * step_seconds / 10 < fractions[-1] <= 1
    middles = [(step + 0.5) * step_seconds / 10 for step in range(len(fractions))]
    late = [abs(fraction - middle) for fraction, middle in zip(fractions, middles, strict=True)][20:]
    assert max(late) < 0.02 * step_seconds


def test_one_slow_step_does_not_end_the_run(clock: _Clock) -> None:
    """A checkpoint of two seconds at half time."""
    began = clock.now
    _run(TimeProgress(10.0), clock, lambda step: 2.0 if step == 50 else 0.1)
    assert 9.5 < clock.now - began < 10.001


def test_steps_that_slow_down_still_end_in_time(clock: _Clock) -> None:
    began = clock.now
    _run(TimeProgress(10.0), clock, lambda step: 0.1 if step < 30 else 0.3)
    assert 9.4 < clock.now - began < 10.1


@pytest.mark.parametrize("step_seconds", [3.4, 4.0])
def test_few_long_steps_end_in_time(clock: _Clock, step_seconds: float) -> None:
    began = clock.now
    _run(TimeProgress(10.0), clock, lambda step: step_seconds)
    assert clock.now - began <= 10.001


def test_time_of_earlier_sessions_counts(clock: _Clock) -> None:
    began = clock.now
    progress = TimeProgress(10.0, spent_before=7.5)
    assert progress.elapsed() == pytest.approx(7.5, abs=0.01)
    fractions = _run(progress, clock, lambda step: 0.05)
    assert fractions[0] == pytest.approx(0.75, abs=0.01)
    assert 2.4 < clock.now - began < 2.501


def test_no_time_left_takes_no_step(clock: _Clock) -> None:
    assert _run(TimeProgress(10.0, spent_before=10.1), clock, lambda step: 1.0) == []
