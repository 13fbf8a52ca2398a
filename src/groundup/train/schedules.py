"""The learning rate, and the batch, over a run: functions of progress, which runs from 0 to 1.

Progress may count steps or follow the clock, so one schedule serves every kind of budget.
"""

import math
from collections.abc import Callable

# From the position behind the warm-up, and the share of it that cools down, to the share of the peak.
Decay = Callable[[float, float], float]


def _constant(position: float, cooldown: float) -> float:
    """The peak to the end; `train.final_lr` has no say."""
    del position, cooldown
    return 1.0


def _linear(position: float, cooldown: float) -> float:
    """Straight to zero (Bergsma et al. 2025, arXiv:2502.15938)."""
    del cooldown
    return 1.0 - position


def _cosine(position: float, cooldown: float) -> float:
    """Half a cosine (Loshchilov and Hutter 2017, arXiv:1608.03983)."""
    del cooldown
    return 0.5 * (1.0 + math.cos(math.pi * position))


def _trapezoid(position: float, cooldown: float) -> float:
    """Constant, then straight down (Hägele et al. 2024, arXiv:2405.18392).

    With the warm-up a trapezoid; also called warm-up, stable, decay (Hu et al. 2024, arXiv:2404.06395).
    """
    return min(1.0, (1.0 - position) / cooldown)


SCHEDULES: dict[str, Decay] = {
    "linear": _linear,
    "cosine": _cosine,
    "trapezoid": _trapezoid,
    "wsd": _trapezoid,
    "constant": _constant,
}


def share_of_peak(schedule: str, progress: float, warmup: float, final: float, cooldown: float = 0.2) -> float:
    """The learning rate at `progress` over its peak: up over the first `warmup`, then down to `final`.

    `trapezoid` and `wsd` go down over the last `cooldown` of the run, or all that the warm-up leaves of it.
    """
    if progress < warmup:
        return progress / warmup
    position = min(1.0, (progress - warmup) / (1.0 - warmup))
    cooldown_position = min(1.0, cooldown / (1.0 - warmup))
    return final + (1.0 - final) * SCHEDULES[schedule](position, cooldown_position)


def batch_windows(progress: float, batch_size: int, micro_batch: int, warmup: float, start: float) -> int:
    """The windows of a step's batch: from `start * batch_size` straight up to all of it at progress `warmup`.

    It grows by whole micro-batches, or by its first size where that is the smaller (Brown et al. 2020,
    arXiv:2005.14165).
    """
    if warmup == 0.0 or progress >= warmup:
        return batch_size
    smallest = max(1, round(start * batch_size))
    unit = min(micro_batch, smallest)
    share = start + (1.0 - start) * progress / warmup
    return min(batch_size, unit * max(1, round(share * batch_size / unit)))


def steps_with_warmup(steps: int, warmup: float, start: float) -> int:
    """The steps with growing batches that see as many windows as `steps` whole batches."""
    return round(steps / (1.0 - warmup * (1.0 - start) / 2.0))
