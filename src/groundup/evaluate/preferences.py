"""How well a reward tells the better of two answers from the other, and whether it knows how surely."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from groundup.evaluate.classification import wilson_interval
from groundup.objective import Objective
from groundup.plan.hardware import Precision
from groundup.train.compile import eager
from groundup.train.precision import autocast, reading_precision

Margins = npt.NDArray[np.float64]

_ROWS_AT_ONCE = 32
_NUM_BINS = 10


@dataclass(frozen=True)
class ConfidenceBin:
    """The pairs in which the answer that was taken for the better was so with a probability from `low` to `high`.

    `confidence` is the mean of those probabilities, `accuracy` the share that was right.
    """

    low: float
    high: float
    pairs: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class PreferenceScores:
    """Figures of a reward on pairs that it has not learnt from.

    Attributes:
        accuracy: the share of pairs whose chosen answer has the higher reward; a draw is wrong.
        accuracy_low: of its 95 % interval, as `accuracy_high`.
        mean_margin: the chosen answer's reward less the other's.
        calibration_error: by how much confidence misses accuracy, the mean over pairs (ECE).
        bins: of confidence, from 0.5 to 1; those without pairs are left out.
    """

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    pairs: int
    mean_margin: float
    calibration_error: float
    bins: list[ConfidenceBin]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def preference_scores(margins_N: Margins) -> PreferenceScores:
    """The figures of margins (N,), rewards of chosen answers less those of rejected ones; N is at least 1.

    A margin m says that the chosen answer is the better one with probability sigmoid(m), the Bradley-Terry model:
    of the two it takes one with confidence sigmoid(|m|), and is right where m > 0 (Guo et al. 2017,
    arXiv:1706.04599).
    """
    are_right_N = margins_N > 0
    confidences_N = 1 / (1 + np.exp(-np.abs(margins_N)))
    low, high = wilson_interval(int(are_right_N.sum()), len(margins_N))
    bins = _bins(confidences_N, are_right_N)
    return PreferenceScores(
        accuracy=float(are_right_N.mean()),
        accuracy_low=low,
        accuracy_high=high,
        pairs=len(margins_N),
        mean_margin=float(margins_N.mean()),
        calibration_error=sum(bin.pairs * abs(bin.confidence - bin.accuracy) for bin in bins) / len(margins_N),
        bins=bins,
    )


def _bins(confidences_N: Margins, are_right_N: npt.NDArray[np.bool_]) -> list[ConfidenceBin]:
    borders = np.linspace(0.5, 1.0, _NUM_BINS + 1)
    places_N = np.minimum(np.searchsorted(borders, confidences_N, side="right") - 1, _NUM_BINS - 1)
    members = ((place, places_N == place) for place in range(_NUM_BINS))
    return [
        ConfidenceBin(
            low=float(borders[place]),
            high=float(borders[place + 1]),
            pairs=int(inside_N.sum()),
            confidence=float(confidences_N[inside_N].mean()),
            accuracy=float(are_right_N[inside_N].mean()),
        )
        for place, inside_N in members
        if inside_N.any()
    ]


@torch.no_grad()
def pair_margins(
    model: nn.Module,
    objective: Objective,
    rewards: Callable[[nn.Module, Any], Tensor],
    rows: npt.NDArray[np.int64],
    *,
    device: str,
    precision: Precision,
) -> Margins:
    """The margin (N,) of each pair in rows (N, 2, 3, L), under `rewards` (B, 2) of a batch of the objective's."""
    was_training = model.training
    model.eval()
    parts = []
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        batch = objective.collate(rows[first : first + _ROWS_AT_ONCE], first)
        with eager(), autocast(device, reading_precision(precision)):
            rewards_B2 = rewards(model, batch.to(device)).double()
        parts.append((rewards_B2[:, 0] - rewards_B2[:, 1]).cpu().numpy())
    model.train(was_training)
    return np.concatenate(parts)
