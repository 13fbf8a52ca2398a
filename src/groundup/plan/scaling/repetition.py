"""What text is worth that is read more than once, and what reading it too often costs.

Muennighoff et al. 2023 (arXiv:2305.16264): repeated tokens, and parameters beyond those that the unique tokens
call for, are worth less and less, each up to a limit. That law only ever levels off, where the loss of real runs
rises again with many epochs. `Overfitting` adds that rise; its form is our own.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Overfitting:
    """What is added to the loss, as a share of it, so that it holds in any unit: learning the text by heart.

        limit (1 - exp(-level (N / U)^a / limit)) (1 - exp(-(R / R_U)^b)),   R_U = pace (U / 1e9)^-c

    with N parameters, U unique tokens and R = D / U - 1 repetitions. The first factor is what a model of so many
    parameters a token comes to in the end, the second how far it has got.
    """

    level: float
    ratio_exponent: float
    limit: float
    pace: float
    unique_exponent: float
    repetition_exponent: float

    def share(self, parameters: float, repetitions: float, unique_tokens: float) -> float:
        """The rise over the loss without overfitting."""
        final = _levelling_off(self.level * (parameters / unique_tokens) ** self.ratio_exponent, self.limit)
        pace = self.pace * (unique_tokens / 1e9) ** -self.unique_exponent
        return final * _levelling_off((repetitions / pace) ** self.repetition_exponent, 1.0)


@dataclass(frozen=True)
class Worth:
    """The parameters and fresh tokens that would serve as well, and the rise of the loss by overfitting."""

    parameters: float
    tokens: float
    overfitting: float


@dataclass(frozen=True)
class Repetition:
    """How fast repeated tokens (R_D*) and surplus parameters (R_N*) lose their worth, and what overfitting adds.

    None for R_D* or R_N*: they keep their worth.
    """

    data_decay: float | None = 15.387756
    size_decay: float | None = 5.309743
    overfitting: Overfitting | None = None

    def worth(self, parameters: float, tokens: float, unique_tokens: float, optimal_parameters: float) -> Worth:
        """What a run is worth that reads `unique_tokens` as often as makes up `tokens`.

        `optimal_parameters` is the size for which the unique tokens, read once, are compute-optimal.
        """
        if tokens <= unique_tokens:
            return Worth(parameters, tokens, 0.0)
        repetitions = tokens / unique_tokens - 1.0
        return Worth(
            _worth(parameters, optimal_parameters, self.size_decay),
            _worth(tokens, unique_tokens, self.data_decay),
            self.overfitting.share(parameters, repetitions, unique_tokens) if self.overfitting else 0.0,
        )


def _worth(amount: float, full: float, decay: float | None) -> float:
    """`amount`, of which what goes beyond `full` is worth less and less: at most `decay` times `full` more."""
    if decay is None or amount <= full:
        return amount
    return full * (1.0 + _levelling_off(amount / full - 1.0, decay))


def _levelling_off(amount: float, limit: float) -> float:
    """`amount` where it is small against `limit`, `limit` where it is large."""
    return -limit * math.expm1(-amount / limit)


MUENNIGHOFF = Repetition()
"""As published, without overfitting."""

TOKENS_ONLY = Repetition(size_decay=None)
"""For laws fitted to runs with repeats: few small runs cannot tell which size their text calls for."""

MANY_EPOCHS = Repetition(
    data_decay=None,
    size_decay=None,
    overfitting=Overfitting(
        level=0.1893,
        ratio_exponent=1.3743,
        limit=3.2724,
        pace=54.43,
        unique_exponent=0.3851,
        repetition_exponent=1.3839,
    ),
)
"""Fitted by benchmarks/planner_laws.py to 273 runs of Muennighoff et al.: 14M to 8.7B parameters, 100M to 178B
unique tokens, 1 to 9,000 epochs. With overfitting told apart, repeated tokens lose no worth that these runs show.
"""
