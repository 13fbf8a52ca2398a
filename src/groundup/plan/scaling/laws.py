"""The forms in which the loss depends on model size and training tokens, and what each says is best for a budget.

Each form has the same five constants: the loss E that no model and no amount of text go below, and a factor and an
exponent for size and for data. The unit of the losses is that of the runs that a law was fitted to.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from groundup.errors import UserError, nearest
from groundup.plan.scaling.repetition import MUENNIGHOFF, Overfitting, Repetition

Array: TypeAlias = npt.NDArray[np.float64]
Number = TypeVar("Number", float, Array)
LossUnit = Literal["nats per token", "bits per byte"]

# A search in one variable: from a grid over the whole range to the width of its cells, again and again.
_GRID, _REFINEMENTS = 65, 8
_SMALLEST, _LARGEST = 1e3, 1e15
_CONSTANTS = ("irreducible", "size_factor", "size_exponent", "data_factor", "data_exponent")


class Optimum(NamedTuple):
    """The best model for a budget: its parameters, tokens, and loss."""

    parameters: float
    tokens: float
    loss: float


@dataclass(frozen=True)
class Law(ABC):
    """A law of the loss: N parameters, D tokens -> loss in `unit`; E, A, alpha, B, beta in this order."""

    irreducible: float
    size_factor: float
    size_exponent: float
    data_factor: float
    data_exponent: float
    unit: LossUnit = "nats per token"
    origin: str = ""
    repetition: Repetition = MUENNIGHOFF

    form: ClassVar[str]
    formula: ClassVar[str]
    num_constants: ClassVar[int] = 5

    @abstractmethod
    def fresh(self, parameters: Number, tokens: Number) -> Number:
        """The loss where no text is read twice; numbers or arrays (N,)."""

    @abstractmethod
    def parameters_for(self, tokens: float) -> float:
        """The size for which so many fresh tokens are compute-optimal, at 6 FLOPs a parameter and token."""

    @abstractmethod
    def _best_parameters(self, flops: float) -> float:
        """The compute-optimal size for fresh text and C = 6 N D."""

    def loss(self, parameters: float, tokens: float, unique_tokens: float | None = None) -> float:
        """The loss after `tokens`, of which only `unique_tokens` differ (see `repetition`); None: all do."""
        if unique_tokens is None or tokens <= unique_tokens:
            return self.fresh(parameters, tokens)
        best = self.parameters_for(unique_tokens)
        worth = self.repetition.worth(parameters, tokens, unique_tokens, best)
        return self.fresh(worth.parameters, worth.tokens) * (1.0 + worth.overfitting)

    def optimal(self, flops: float, unique_tokens: float | None = None) -> Optimum:
        """Parameters and tokens with the lowest loss for C = 6 N D: in closed form; searched for with repeats."""
        parameters = self._best_parameters(flops)
        if unique_tokens is not None and flops / (6.0 * parameters) > unique_tokens:
            parameters = lowest(lambda size: self.loss(size, flops / (6.0 * size), unique_tokens))
        tokens = flops / (6.0 * parameters)
        return Optimum(parameters, tokens, self.loss(parameters, tokens, unique_tokens))

    def as_json(self) -> dict[str, Any]:
        """Plain values, with the name of the form."""
        return {"form": self.form, **asdict(self)}

    def with_constants(self, constants: Sequence[float]) -> Self:
        """The same form with other values of E, A, alpha, B, beta."""
        named: dict[str, Any] = dict(zip(_CONSTANTS, constants, strict=True))
        return replace(self, **named)

    @property
    def constants(self) -> tuple[float, ...]:
        """E, A, alpha, B, beta."""
        return tuple(getattr(self, name) for name in _CONSTANTS)


@dataclass(frozen=True)
class ChinchillaLaw(Law):
    """L = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, arXiv:2203.15556, approach 3)."""

    form: ClassVar[str] = "chinchilla"
    formula: ClassVar[str] = "E + A / N^alpha + B / D^beta"

    def fresh(self, parameters: Number, tokens: Number) -> Number:
        """See `Law.fresh`."""
        of_size = self.size_factor * parameters**-self.size_exponent
        return self.irreducible + of_size + self.data_factor * tokens**-self.data_exponent

    def parameters_for(self, tokens: float) -> float:
        """See `Law.parameters_for`: where alpha A N^-alpha = beta B D^-beta."""
        ratio = self.size_exponent * self.size_factor / (self.data_exponent * self.data_factor)
        return float((ratio * tokens**self.data_exponent) ** (1.0 / self.size_exponent))

    def _best_parameters(self, flops: float) -> float:
        """G (C / 6)^(beta / (alpha + beta)), equation 4 of Hoffmann et al."""
        total = self.size_exponent + self.data_exponent
        ratio = self.size_exponent * self.size_factor / (self.data_exponent * self.data_factor)
        return float(ratio ** (1.0 / total) * (flops / 6.0) ** (self.data_exponent / total))


@dataclass(frozen=True)
class TiedLaw(ChinchillaLaw):
    """Chinchilla's form with alpha = beta, which is that of Gadre et al. 2024 (arXiv:2403.08540).

    Theirs is L = E + (a M^eta + b M^-eta) C^-eta with M = D / N and C = 6 N D. Put in, these give
    A = a 6^-eta, B = b 6^-eta and alpha = beta = 2 eta: loss falls alike in size and data, and the best number of
    tokens a parameter is the same at every budget.
    """

    form: ClassVar[str] = "tied"
    formula: ClassVar[str] = "E + A / N^alpha + B / D^alpha"
    num_constants: ClassVar[int] = 4

    def __post_init__(self) -> None:
        assert self.size_exponent == self.data_exponent, "the tied form has one exponent"


@dataclass(frozen=True)
class KaplanLaw(Law):
    """L = E + ((A / N)^(alpha / beta) + B / D)^beta (Kaplan et al. 2020, arXiv:2001.08361, eq. 1.5; E added)."""

    form: ClassVar[str] = "kaplan"
    formula: ClassVar[str] = "E + ((A / N)^(alpha / beta) + B / D)^beta"

    def fresh(self, parameters: Number, tokens: Number) -> Number:
        """See `Law.fresh`."""
        of_size = (self.size_factor / parameters) ** self._ratio
        return self.irreducible + (of_size + self.data_factor / tokens) ** self.data_exponent

    def parameters_for(self, tokens: float) -> float:
        """See `Law.parameters_for`: where r (A / N)^r = B / D with r = alpha / beta."""
        return float(self.size_factor * (self._ratio * tokens / self.data_factor) ** (1.0 / self._ratio))

    def _best_parameters(self, flops: float) -> float:
        weight = self._ratio * self.size_factor**self._ratio * flops / (6.0 * self.data_factor)
        return float(weight ** (1.0 / (self._ratio + 1.0)))

    @property
    def _ratio(self) -> float:
        return self.size_exponent / self.data_exponent


FORMS: dict[str, type[Law]] = {law.form: law for law in (TiedLaw, ChinchillaLaw, KaplanLaw)}


def form(name: str) -> type[Law]:
    """The form called `name`; UserError with the nearest known one otherwise."""
    if name not in FORMS:
        raise UserError(f"unknown form '{name}' of a law{nearest(name, FORMS)}")
    return FORMS[name]


def law_from_json(values: dict[str, Any]) -> Law:
    """What `Law.as_json` wrote."""
    given = {name: value for name, value in values.items() if name != "form"}
    repetition = dict(given["repetition"])
    if repetition["overfitting"] is not None:
        repetition["overfitting"] = Overfitting(**repetition["overfitting"])
    return form(values["form"])(**given | {"repetition": Repetition(**repetition)})


def lowest(loss: Callable[[float], float], smallest: float = _SMALLEST, largest: float = _LARGEST) -> float:
    """Where between two sizes `loss`, which falls and then rises, is lowest: to within 1e-7 of itself."""
    low, high = np.log(smallest), np.log(largest)
    for _ in range(_REFINEMENTS):
        grid = np.linspace(low, high, _GRID)
        best = int(np.argmin([loss(float(np.exp(point))) for point in grid]))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]
    return float(np.exp((low + high) / 2))
