"""What text is worth that is read more than once, and what reading it too often costs.

Muennighoff et al. 2023 (arXiv:2305.16264): repeated tokens, and parameters beyond those that the unique tokens call
for, are worth less and less, each up to a limit. That law only ever levels off, where the loss of real runs rises
again with many epochs. `Overfitting` says how much; its form is our own.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Overfitting:
    """What is added to the loss, as a share of it, so that it holds in any unit.

        s = level (R / 40)^a (N / U)^b (U / 1e9)^c,   levelling off: limit (1 - exp(-s / limit))

    with R = D / U - 1 repetitions, N parameters and U unique tokens.
    """

    level: float
    repetition_exponent: float
    ratio_exponent: float
    unique_exponent: float
    limit: float

    def share(self, parameters: float, repetitions: float, unique_tokens: float) -> float:
        """The rise over the loss without overfitting."""
        raw = (
            self.level
            * (repetitions / 40.0) ** self.repetition_exponent
            * (parameters / unique_tokens) ** self.ratio_exponent
            * (unique_tokens / 1e9) ** self.unique_exponent
        )
        return _levelling_off(raw, self.limit)


@dataclass(frozen=True)
class Worth:
    """The parameters and fresh tokens that would serve as well, and the rise of the loss by overfitting."""

    parameters: float
    tokens: float
    overfitting: float


@dataclass(frozen=True)
class Repetition:
    """How fast repeated tokens (R_D*) and surplus parameters (R_N*) lose their worth, and what overfitting adds."""

    data_decay: float = 15.387756
    size_decay: float = 5.309743
    overfitting: Overfitting | None = None

    def worth(self, parameters: float, tokens: float, unique_tokens: float, optimal_parameters: float) -> Worth:
        """What a run is worth that reads `unique_tokens` as often as makes up `tokens`.

        `optimal_parameters` is the size for which the unique tokens, read once, are compute-optimal.
        """
        if tokens <= unique_tokens:
            return Worth(parameters, tokens, 0.0)
        repetitions = tokens / unique_tokens - 1.0
        return Worth(
            self._worth_of_size(parameters, optimal_parameters),
            unique_tokens * (1.0 + _levelling_off(repetitions, self.data_decay)),
            self.overfitting.share(parameters, repetitions, unique_tokens) if self.overfitting else 0.0,
        )

    def _worth_of_size(self, parameters: float, optimal_parameters: float) -> float:
        if parameters <= optimal_parameters or math.isinf(self.size_decay):
            return parameters
        surplus = parameters / optimal_parameters - 1.0
        return optimal_parameters * (1.0 + _levelling_off(surplus, self.size_decay))


def _levelling_off(amount: float, limit: float) -> float:
    """`amount` where it is small against `limit`, `limit` where it is large."""
    return -limit * math.expm1(-amount / limit)


MUENNIGHOFF = Repetition()
"""As published, without overfitting."""

TOKENS_ONLY = Repetition(size_decay=math.inf)
"""For laws fitted to runs with repeats: few small runs cannot tell which size their text calls for."""
