"""How well a classifier does: accuracy with its interval, F1, and what it takes for what."""

from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.integer[Any]]

# The normal distribution's, of 95 %.
_Z = 1.959963984540054


@dataclass(frozen=True)
class ClassificationScores:
    """Figures of a classifier on examples that it has not learnt from.

    Attributes:
        accuracy: the share of right answers; `accuracy_low` and `accuracy_high` are its 95 % interval.
        majority: the accuracy of always giving the most frequent label of these examples.
        f1_macro: the mean of the classes' F1.
        confusion: `confusion[true][given]` counts examples.
    """

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    majority: float
    f1_macro: float
    examples: int
    confusion: list[list[int]]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def classification_scores(true_N: Integers, given_N: Integers, num_classes: int) -> ClassificationScores:
    """The figures of answers (N,) to labels (N,), both from 0 to `num_classes` - 1; N is at least 1."""
    confusion = np.bincount(true_N * num_classes + given_N, minlength=num_classes**2).reshape(num_classes, -1)
    total, right = int(confusion.sum()), np.diag(confusion)
    low, high = wilson_interval(int(right.sum()), total)
    return ClassificationScores(
        accuracy=float(right.sum() / total),
        accuracy_low=low,
        accuracy_high=high,
        majority=float(confusion.sum(1).max() / total),
        f1_macro=_f1_macro(confusion, right),
        examples=total,
        confusion=confusion.tolist(),
    )


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927): it stays within 0 and 1, and holds for few trials too."""
    share, factor = successes / trials, _Z**2 / trials
    centre = (share + factor / 2) / (1 + factor)
    half = _Z / (1 + factor) * sqrt(share * (1 - share) / trials + factor / (4 * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def _f1_macro(confusion: Integers, right: Integers) -> float:
    """Over the classes that occur, as labels or as answers; 2 TP / (2 TP + FP + FN) each."""
    occurring = confusion.sum(1) + confusion.sum(0)
    counted = occurring > 0
    return float((2 * right[counted] / occurring[counted]).mean())
