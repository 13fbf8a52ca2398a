"""What one of many processes cannot decide for itself: when to stop, when to save, how far the run has come.

Clocks differ, signals reach processes at different moments, and only one of them sees how long the disk takes.
They would take different numbers of steps, or wait for each other for ever; so they ask each other once a step.
Alone, a process asks nobody, and nothing is sent.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist

from groundup.parallel.agree import in_group
from groundup.train.progress import Progress


class Decision(NamedTuple):
    """After a step: the signal by which to stop, if one came to any process, and whether to save."""

    signal: int | None
    save: bool


def decide(signal: int | None, save: bool) -> Decision:
    """What all processes do after this step, which each of them asks: any signal counts, and rank 0's `save`."""
    if not in_group():
        return Decision(signal, save)
    wishes = torch.tensor([signal or 0, int(save and dist.get_rank() == 0)])
    dist.all_reduce(wishes, dist.ReduceOp.MAX)
    return Decision(int(wishes[0]) or None, bool(wishes[1]))


@dataclass
class SharedProgress:
    """The progress of rank 0 on every process: clocks differ. Every process must ask the same."""

    own: Progress

    def fraction(self, step: int) -> float:
        """How far the run of rank 0 is."""
        return of_first(self.own.fraction(step))

    def finished(self, step: int) -> bool:
        """Whether it ends before step `step`."""
        return bool(of_first(self.own.finished(step)))


def of_first(value: float) -> float:
    """What rank 0 has for it; every process must ask the same."""
    if not in_group():
        return value
    told = torch.tensor(float(value), dtype=torch.float64)
    dist.broadcast(told, 0)
    return float(told)
