"""What a bar shows of a run that goes on: a loss that does not jump, and the time that is left."""

import math
import time

# How much the shown loss follows the last step.
_SMOOTHING = 0.05


class Pace:
    """Follows one session of a run."""

    def __init__(self) -> None:
        self._loss: float | None = None
        self._began: tuple[float, float] | None = None

    def smooth(self, loss: float) -> float:
        """The mean of the last steps' losses."""
        before = loss if self._loss is None else self._loss
        self._loss = before + _SMOOTHING * (loss - before)
        return self._loss

    def seconds_left(self, fraction: float) -> float:
        """By the rate since this session began; infinite before there is one."""
        now = time.monotonic()
        if self._began is None:
            self._began = (now, fraction)
        began, first = self._began
        return (now - began) * (1 - fraction) / (fraction - first) if fraction > first else math.inf
