"""How far a fitted law may be trusted: fits to runs weighted at random, and laws held against runs they did not see."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from groundup.plan.scaling.fit import fit_law, residuals
from groundup.plan.scaling.laws import FORMS, Array, Law
from groundup.plan.scaling.runs import Runs

CONFIDENCE = 0.9
"""The share of outcomes that an interval should hold."""

_RESAMPLES = 200
# The largest runs that are held out, as shares of all, each in turn.
_HELD_OUT = (1 / 8, 1 / 4, 3 / 8, 1 / 2)


class Miss(NamedTuple):
    """A run that a law was not fitted to: its FLOPs over the most of those it was, and the error of the log loss."""

    factor: float
    error: float


def resampled_laws(runs: Runs, law: Law, count: int = _RESAMPLES, seed: int = 0) -> list[Law]:
    """Laws fitted to the same runs with random weights, each begun at `law`.

    The Bayesian bootstrap (Rubin 1981): weights are exponential, so that each run keeps some, where drawing a few
    runs with replacement would often leave too few different ones for the constants.
    """
    generator = np.random.default_rng(seed)
    return [_weighted(runs, law, generator.exponential(size=len(runs))) for _ in range(count)]


def leave_one_out(runs: Runs, law: Law) -> Array:
    """(R,) errors of the log loss of each run by the law fitted to all others."""
    errors = []
    for index in range(len(runs)):
        weights = np.ones(len(runs))
        weights[index] = 0.0
        errors.append(residuals(_weighted(runs, law, weights), runs.take(np.array([index])))[0])
    return np.array(errors)


def hold_out(runs: Runs, law: Law) -> list[Miss]:
    """Misses of laws of the same form, fitted to the runs with the least FLOPs, for those with the most."""
    order = np.argsort(runs.compute, kind="stable")
    misses: list[Miss] = []
    for share in _HELD_OUT:
        fitted = runs.take(order[: len(runs) - round(share * len(runs))])
        if len(fitted) == len(runs) or len(fitted) < law.num_constants + 1:
            continue
        unseen = runs.take(order[len(fitted) :])
        smaller = fit_law(fitted, law.form, repetition=law.repetition)
        factors = unseen.compute / fitted.compute.max()
        misses += [Miss(*pair) for pair in zip(factors, residuals(smaller, unseen), strict=True)]
    return misses


def noise_of(runs: Runs, law: Law) -> float:
    """The standard deviation of log losses about the law, with the constants that were fitted allowed for."""
    degrees = max(len(runs) - law.num_constants, 1)
    return float(np.sqrt((residuals(law, runs) ** 2).sum() / degrees))


def drift_of(misses: Sequence[Miss], noise: float) -> float:
    """How fast the error of an extrapolation grows, a factor of e in FLOPs: what is left of misses beyond noise."""
    spans = sum(np.log(miss.factor) ** 2 for miss in misses)
    beyond = sum(max(miss.error**2 - noise**2, 0.0) for miss in misses)
    return float(np.sqrt(beyond / spans)) if spans else 0.0


def quantile_of(runs: Runs, law: Law) -> float:
    """How many standard deviations either way hold `CONFIDENCE`: Student's, since few runs tell little of theirs."""
    from scipy.special import stdtrit

    return float(stdtrit(max(len(runs) - law.num_constants, 1), 0.5 + CONFIDENCE / 2))


class Contest(NamedTuple):
    """Laws of several forms fitted to the same runs, with the error of each for runs it was not fitted to."""

    laws: dict[str, Law]
    errors: dict[str, float]

    @property
    def best(self) -> Law:
        """The law whose error is smallest."""
        return self.laws[min(self.errors, key=self.errors.__getitem__)]


def contest(runs: Runs, names: Sequence[str] = tuple(FORMS)) -> Contest:
    """Fit each form that there are runs enough for; errors are root mean squares of leaving out one run at a time."""
    names = [name for name in names if len(runs) > FORMS[name].num_constants] or list(names[:1])
    laws = {name: fit_law(runs, name) for name in names}
    errors = {name: float(np.sqrt(np.mean(leave_one_out(runs, law) ** 2))) for name, law in laws.items()}
    return Contest(laws, errors)


def _weighted(runs: Runs, law: Law, weights: Array) -> Law:
    return fit_law(runs, law.form, weights=weights, start=law, repetition=law.repetition)
