"""How far a run has come: counted in steps, or read from the clock."""

import time
from dataclasses import dataclass, field
from typing import Protocol


class Progress(Protocol):
    """The trainer asks before each step; `fraction` runs from 0 to 1 and drives the learning rate."""

    def fraction(self, step: int) -> float:
        """How far the run will be in the middle of step `step` (0-based)."""
        ...

    def finished(self, step: int) -> bool:
        """Whether the run ends before step `step`."""
        ...


@dataclass
class StepProgress:
    """A run of a fixed number of steps: exactly reproducible."""

    steps: int

    def fraction(self, step: int) -> float:
        """The share of the steps that is over half-way through the coming one."""
        return min(1.0, (step + 0.5) / self.steps)

    def finished(self, step: int) -> bool:
        """Whether all steps are taken."""
        return step >= self.steps


@dataclass
class TimeProgress:
    """A run of a fixed time, which ends annealed when the time is up, however fast the machine is."""

    seconds: float
    spent_before: float = 0.0
    _start: float = field(init=False)
    _last_call: float = field(init=False)
    _step_seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._start = self._last_call = time.monotonic()

    def elapsed(self) -> float:
        """Seconds of training so far, those of earlier sessions included."""
        return self.spent_before + time.monotonic() - self._start

    def fraction(self, step: int) -> float:
        """The share of the time that is over half-way through the coming step."""
        del step
        return min(1.0, (self.elapsed() + 0.5 * self._step_seconds) / self.seconds)

    def finished(self, step: int) -> bool:
        """Whether another step, as long as the last ones, would end after the time is up."""
        now = time.monotonic()
        if step:
            # A smooth estimate: one slow step (a checkpoint) must not end the run early.
            last = now - self._last_call
            self._step_seconds += 0.2 * (last - self._step_seconds) if self._step_seconds else last
        self._last_call = now
        return self.elapsed() + self._step_seconds > self.seconds
