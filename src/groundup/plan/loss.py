"""The loss to expect: bits per byte from model size and training tokens.

L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, arXiv:2203.15556), in bits per byte of text so that
tokenizers compare. N counts non-embedding parameters, D tokens of fresh text.
"""

import math
from dataclasses import dataclass, replace
from typing import Protocol, Self

# Muennighoff et al. 2023 (arXiv:2305.16264): how fast repeated tokens lose their worth.
_REPETITION_HALF_LIFE = 15.387756


class ExpectedLoss(Protocol):
    """What the choice of a model needs to know of the loss."""

    @property
    def relative_error(self) -> float:
        """How far an outcome may lie from what is expected, as a share."""

    @property
    def origin(self) -> str:
        """Where it comes from, for people."""

    @property
    def formula(self) -> str:
        """In the symbols of `constants`, N and D."""

    @property
    def constants(self) -> dict[str, float]:
        """By symbol."""

    def bits_per_byte(self, parameters: float, tokens: float, compressibility: float | None = None) -> float:
        """The expected held-out loss of so many non-embedding parameters and tokens of fresh text."""


@dataclass(frozen=True)
class LossLaw:
    """The law's constants, the compressibility of the text that they were fitted on, and their error."""

    irreducible: float
    size_factor: float
    size_exponent: float
    data_factor: float
    data_exponent: float
    compressibility: float
    relative_error: float
    origin: str

    def bits_per_byte(self, parameters: float, tokens: float, compressibility: float | None = None) -> float:
        """The expected held-out loss, scaled by how hard the text is (see `data.sampling.compressibility`)."""
        loss = (
            self.irreducible
            + self.size_factor / parameters**self.size_exponent
            + self.data_factor / tokens**self.data_exponent
        )
        return loss * (compressibility / self.compressibility if compressibility else 1.0)

    @property
    def formula(self) -> str:
        """In the symbols of `constants`; for text that is as compressible as that of the fit."""
        return "E + A / N^alpha + B / D^beta"

    @property
    def constants(self) -> dict[str, float]:
        """By symbol."""
        return {
            "E": self.irreducible,
            "A": self.size_factor,
            "alpha": self.size_exponent,
            "B": self.data_factor,
            "beta": self.data_exponent,
        }

    def scaled(self, factor: float) -> Self:
        """The law with every loss so much higher: what past runs on a text showed."""
        if factor == 1.0:
            return self
        return replace(
            self,
            irreducible=factor * self.irreducible,
            size_factor=factor * self.size_factor,
            data_factor=factor * self.data_factor,
            origin=f"{self.origin}; times {factor:.3f}, as past runs on this text came out",
        )


def effective_tokens(tokens: float, unique_tokens: float) -> float:
    """What `tokens` of training are worth when the text has only `unique_tokens` (Muennighoff et al. 2023)."""
    if tokens <= unique_tokens:
        return tokens
    repetitions = tokens / unique_tokens - 1.0
    worth = _REPETITION_HALF_LIFE * (1.0 - math.exp(-repetitions / _REPETITION_HALF_LIFE))
    return unique_tokens * (1.0 + worth)


# The exponents are those of Hoffmann et al. 2022, since runs of a few minutes cannot tell them. The factors are
# for Muon: their ratio from seven runs on English books of 0.1M to 4.4M parameters and 1M to 9.4M tokens, their
# level from wiki-en (benchmarks/LOG.md); they miss those runs by 2 % on average, 7 % at most.
SMALL_RUNS = LossLaw(
    irreducible=0.95,
    size_factor=17.0,
    size_exponent=0.34,
    data_factor=26.4,
    data_exponent=0.28,
    compressibility=2.2524,
    relative_error=0.08,
    origin="Chinchilla's exponents, factors fitted to small runs on English",
)
