"""Timing what is repeated: warm up, repeat for a while, and say how far the repeats lie apart."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """The seconds of each repeat, in order."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one, which a few disturbed repeats do not move."""
        return statistics.median(self.seconds)

    @property
    def least(self) -> float:
        """The quickest repeat: what the machine does when nothing disturbs it."""
        return min(self.seconds)

    @property
    def spread(self) -> float:
        """The width of the middle half of the repeats as a share of the median: how steady the machine was."""
        if len(self.seconds) < 2:
            return 0.0
        first, _, third = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (third - first) / self.median


def seconds_of(action: Callable[[], None]) -> float:
    """How long `action` takes, once."""
    before = time.perf_counter()
    action()
    return time.perf_counter() - before


def repeat(action: Callable[[], None], seconds: float, *, warmups: int = 2, least: int = 3) -> Timing:
    """Time `action` for about `seconds`, at least `least` times, after `warmups` that do not count."""
    for _ in range(warmups):
        action()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < least:
        times.append(seconds_of(action))
    return Timing(tuple(times))
