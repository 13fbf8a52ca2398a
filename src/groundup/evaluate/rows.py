"""How well a model answers its objective's questions about held-out rows, and one that knows only rates."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from groundup.objective import IGNORED, Objective
from groundup.plan.hardware import Precision
from groundup.train.compile import eager
from groundup.train.precision import autocast, reading_precision

Windows = npt.NDArray[np.int64]
_ROWS_AT_ONCE = 32
# Of the baseline, to answers that were never seen.
_UNSEEN = 0.5


@dataclass(frozen=True)
class RowsEvaluation:
    """The mean loss of all targets in nats, the share that was held for the likeliest, and their number."""

    loss: float
    accuracy: float | None
    targets: int

    @property
    def perplexity(self) -> float:
        """e to the loss."""
        return math.exp(min(self.loss, 700.0))


@torch.no_grad()
def evaluate_rows(
    model: nn.Module,
    objective: Objective,
    rows: Windows,
    *,
    device: str,
    precision: Precision,
    on_progress: Callable[[float], None] | None = None,
) -> RowsEvaluation:
    """The figures of rows (N, ...); what the objective draws for them depends on its seed alone."""
    was_training = model.training
    model.eval()
    nats, targets, correct, judges = 0.0, 0, 0, True
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        batch = objective.collate(rows[first : first + _ROWS_AT_ONCE], first)
        with eager(), autocast(device, reading_precision(precision)):
            loss = objective.loss(model, batch.to(device))
        nats += float(loss.mean) * loss.num_targets
        targets += loss.num_targets
        correct, judges = correct + (loss.num_correct or 0), judges and loss.num_correct is not None
        if on_progress:
            on_progress(min(1.0, (first + _ROWS_AT_ONCE) / len(rows)))
    model.train(was_training)
    count = max(targets, 1)
    return RowsEvaluation(nats / count, correct / count if judges else None, targets)


def evaluate_rates(objective: Objective, train: Windows, held_out: Windows) -> RowsEvaluation:
    """The same of a model that knows how often each answer occurs, and nothing else.

    For a language model that is the unigram; for labels, the most frequent one. The rates are those of the targets
    of the rows `train`.
    """
    seen, asked = _targets(objective, train), _targets(objective, held_out)
    counts = np.bincount(seen, minlength=int(max(seen.max(initial=0), asked.max(initial=0))) + 1) + _UNSEEN
    surprise = -np.log(counts / counts.sum())
    loss = float(surprise[asked].mean()) if len(asked) else 0.0
    accuracy = float((asked == counts.argmax()).mean()) if len(asked) else 0.0
    return RowsEvaluation(loss, accuracy, len(asked))


def _targets(objective: Objective, rows: Windows) -> Windows:
    batch = objective.collate(rows, 0)
    found: Windows = batch.targets.numpy().ravel()
    return found[found != IGNORED]
