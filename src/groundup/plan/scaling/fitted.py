"""A law with what is known of its errors, the cost of runs and the text: a file that predictions are made from."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from groundup.errors import UserError
from groundup.files import write_json
from groundup.plan.scaling.intervals import (
    Contest,
    contest,
    drift_of,
    hold_out,
    noise_of,
    quantile_of,
    resampled_laws,
)
from groundup.plan.scaling.laws import FORMS, Law, Optimum, law_from_json, lowest
from groundup.plan.scaling.published import published
from groundup.plan.scaling.runs import Runs

# A law of others' runs is off by the level of one's own text and tokenizer: Muennighoff's was by 8 % on its
# authors' own validation losses.
_PUBLISHED_NOISE = 0.08
_NORMAL_QUANTILE = 1.645
# Errors of extrapolations beyond what few runs could show; measured on 90 runs (benchmarks/planner_laws.py).
_LEAST_DRIFT = 0.005


class Prediction(NamedTuple):
    """A loss with the bounds between which it should lie in nine cases of ten."""

    loss: float
    low: float
    high: float


@dataclass(frozen=True)
class Uncertainty:
    """What makes a prediction's interval; spreads are of log losses.

    `resampled` holds the constants of the law fitted to runs with random weights, `rivals` laws of other forms
    fitted to the same runs; `noise` is the spread of runs about the law, `drift` what an extrapolation by a factor
    of e in FLOPs adds, from `largest_flops` on.
    """

    noise: float
    drift: float
    quantile: float
    largest_flops: float
    resampled: Sequence[Sequence[float]] = ()
    rivals: Sequence[Law] = ()


@dataclass(frozen=True)
class Cost:
    """FLOPs a token, 6 N + factor N^exponent, and seconds a token, base + FLOPs times `seconds_per_flop`.

    The second term is what attention and the unembedding take, which small models spend most on.
    """

    factor: float = 0.0
    exponent: float = 0.0
    base_seconds: float | None = None
    seconds_per_flop: float | None = None

    def flops_per_token(self, parameters: float) -> float:
        """Of training, forward and backward."""
        return 6.0 * parameters + self.factor * parameters**self.exponent

    def seconds_per_token(self, parameters: float) -> float:
        """On the machine of the runs. UserError where that was not measured."""
        if self.base_seconds is None or self.seconds_per_flop is None:
            raise UserError(
                "this law knows no machine's speed, since its runs have no column 'seconds'; "
                "give --budget as computation (1e18flop) or tokens (300Mtok)"
            )
        return self.base_seconds + self.seconds_per_flop * self.flops_per_token(parameters)


@dataclass(frozen=True)
class FittedLaw:
    """A law to predict with. `unique_tokens` is how much text its runs had, where they had the same."""

    law: Law
    uncertainty: Uncertainty
    cost: Cost = Cost()
    num_runs: int = 0
    unique_tokens: float | None = None

    def predict(self, parameters: float, tokens: float, unique_tokens: float | None = None) -> Prediction:
        """The loss of a run, with its interval; `unique_tokens` None: no text is read twice."""
        known = self.uncertainty
        loss = self.law.loss(parameters, tokens, unique_tokens)

        def spread(laws: Sequence[Law]) -> "np.typing.NDArray[np.float64]":
            others = [law.loss(parameters, tokens, unique_tokens) for law in laws] or [loss]
            return np.log(np.array(others) / loss)

        reach = np.log(max(self.cost.flops_per_token(parameters) * tokens / known.largest_flops, 1.0))
        sideways = known.quantile**2 * (known.noise**2 + (known.drift * reach) ** 2)
        sideways += float(np.mean(spread(known.rivals) ** 2))
        below, above = np.quantile(spread([self.law.with_constants(row) for row in known.resampled]), (0.05, 0.95))
        low, high = (float(np.hypot(bound, np.sqrt(sideways))) for bound in (min(below, 0.0), max(above, 0.0)))
        return Prediction(loss, loss * float(np.exp(-low)), loss * float(np.exp(high)))

    def best_for_flops(self, flops: float, unique_tokens: float | None = None) -> Optimum:
        """The size and tokens with the lowest loss for so many FLOPs."""
        if not self.cost.factor:
            return self.law.optimal(flops, unique_tokens)
        return self._best(lambda size: flops / self.cost.flops_per_token(size), unique_tokens)

    def best_for_seconds(self, seconds: float, unique_tokens: float | None = None) -> Optimum:
        """The same for training time on the machine of the runs."""
        return self._best(lambda size: seconds / self.cost.seconds_per_token(size), unique_tokens)

    def _best(self, tokens_of: Callable[[float], float], unique_tokens: float | None) -> Optimum:
        size = lowest(lambda size: self.law.loss(size, tokens_of(size), unique_tokens))
        return Optimum(size, tokens_of(size), self.law.loss(size, tokens_of(size), unique_tokens))

    def save(self, file: Path) -> None:
        """Write the law as JSON."""
        if file.is_dir():
            raise UserError(f"--out {file} is a folder; name a file, such as {file / 'law.json'}")
        values = asdict(self) | {"law": self.law.as_json()}
        values["uncertainty"]["rivals"] = [law.as_json() for law in self.uncertainty.rivals]
        write_json(file, values)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """What `save` wrote."""
        uncertainty = values["uncertainty"] | {
            "rivals": [law_from_json(law) for law in values["uncertainty"]["rivals"]]
        }
        return cls(
            **values
            | {
                "law": law_from_json(values["law"]),
                "uncertainty": Uncertainty(**uncertainty),
                "cost": Cost(**values["cost"]),
            }
        )


def load_law(file: Path) -> FittedLaw:
    """The law in a file that `groundup scaling fit` wrote. UserError for any other."""
    if not file.is_file():
        raise UserError(f"there is no law in {file}; `groundup scaling fit` writes one")
    try:
        return FittedLaw.from_json(json.loads(file.read_text("utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not a law: {error}; `groundup scaling fit` writes one") from None


def find_law(file_or_name: str) -> FittedLaw:
    """The law in a file, or the published one of this name, which has a wide interval."""
    file = Path(file_or_name)
    if file.suffix == ".json" or file.exists():
        return load_law(file)
    uncertainty = Uncertainty(_PUBLISHED_NOISE, 0.0, _NORMAL_QUANTILE, np.inf)
    return FittedLaw(published(file_or_name), uncertainty)


class Fit(NamedTuple):
    """A fitted law, and how it was chosen."""

    fitted: FittedLaw
    contest: Contest


def fit_runs(runs: Runs, form_name: str = "auto", origin: str = "") -> Fit:
    """The law of a form, or of the one that predicts runs it has not seen best, with all that a prediction needs.

    Raises:
        UserError: too few runs, or an unknown form.
    """
    names = list(FORMS) if form_name == "auto" else [form_name, *(name for name in FORMS if name != form_name)]
    held = contest(runs, names)
    law = held.best if form_name == "auto" else held.laws[form_name]
    law = replace(law, origin=origin)
    # Where runs beyond those fitted are missed by more than runs lie about the law, that counts.
    noise = max(noise_of(runs, law), held.beyond[law.form] or 0.0)
    uncertainty = Uncertainty(
        noise=noise,
        drift=max(drift_of(hold_out(runs, law), noise), _LEAST_DRIFT),
        quantile=quantile_of(runs, law),
        largest_flops=float(runs.compute.max()),
        resampled=[other.constants for other in resampled_laws(runs, law)],
        rivals=[other for name, other in held.laws.items() if name != law.form],
    )
    fitted = FittedLaw(law, uncertainty, _cost(runs), len(runs), _same_text(runs))
    return Fit(fitted, held)


def _same_text(runs: Runs) -> float | None:
    """How many unique tokens the runs had, if all had about the same."""
    unique = runs.unique_tokens
    if unique is None or unique.max() > 1.01 * unique.min():
        return None
    return float(np.median(unique))


def _cost(runs: Runs) -> Cost:
    """Least squares: of the logs for FLOPs beyond 6 N, of relative errors, none below 0, for seconds."""
    cost = Cost()
    beyond = runs.compute / runs.tokens - 6.0 * runs.parameters
    if runs.flops is not None and (beyond > 0).all() and np.ptp(np.log(runs.parameters)) > 0:
        exponent, level = np.polyfit(np.log(runs.parameters), np.log(beyond), 1)
        cost = Cost(float(np.exp(level)), float(exponent))
    if runs.seconds is None:
        return cost
    from scipy.optimize import nnls

    a_token = runs.seconds / runs.tokens
    flops = np.array([cost.flops_per_token(size) for size in runs.parameters])
    columns = np.stack([np.ones_like(flops), flops], axis=1) / a_token[:, None]
    base, slope = nnls(columns, np.ones_like(flops))[0]
    return replace(cost, base_seconds=float(base), seconds_per_flop=float(slope))
