"""The learning rate over a run, as a share of its peak: functions of progress, which runs from 0 to 1.

Progress may count steps or follow the clock, so one schedule serves every kind of budget.
"""

import math
from collections.abc import Callable

Decay = Callable[[float], float]


def _linear(position: float) -> float:
    """Straight to zero (Bergsma et al. 2025, arXiv:2502.15938)."""
    return 1.0 - position


def _cosine(position: float) -> float:
    """Half a cosine (Loshchilov and Hutter 2017, arXiv:1608.03983)."""
    return 0.5 * (1.0 + math.cos(math.pi * position))


def _wsd(position: float) -> float:
    """Warm-up, stable, decay: constant, then down over the last fifth (Hu et al. 2024, arXiv:2404.06395)."""
    return min(1.0, (1.0 - position) / 0.2)


SCHEDULES: dict[str, Decay] = {"linear": _linear, "cosine": _cosine, "wsd": _wsd}


def share_of_peak(schedule: str, progress: float, warmup: float, final: float) -> float:
    """The learning rate at `progress` over its peak: up over the first `warmup`, then down to `final`."""
    if progress < warmup:
        return progress / warmup
    position = min(1.0, (progress - warmup) / (1.0 - warmup))
    return final + (1.0 - final) * SCHEDULES[schedule](position)
