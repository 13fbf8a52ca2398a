"""Fitting a law to runs: the Huber loss of log losses, summed, minimised by L-BFGS from many starts.

As Hoffmann et al. 2022 (arXiv:2203.15556, approach 3) describe it and Besiroglu et al. 2024 (arXiv:2404.10102) put
right: summed over the runs, since averaged values are so small that the search ends before it has begun.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import TypeAlias

import numpy as np

from groundup.errors import UserError
from groundup.plan.scaling.laws import Array, ChinchillaLaw, KaplanLaw, Law, TiedLaw, form
from groundup.plan.scaling.repetition import TOKENS_ONLY, Repetition
from groundup.plan.scaling.runs import Runs

DELTA = 1e-3
"""From here on a residual of the log loss counts linearly, so that single runs that went wrong count little."""

# Starts: exponents, and E as a share of the lowest loss; the factors then follow by least squares.
_EXPONENTS, _SHARES = (0.2, 0.35, 0.5, 0.8), (0.1, 0.4, 0.7, 0.9)
_BEST_STARTS = 6
_LEAST_EXPONENT, _MOST_EXPONENT = 0.02, 3.0
_LEAST_SHARE, _LEAST_TERM = 1e-3, 1e-4

# (constants (5,), log N (R,), log D (R,)) -> log loss (R,) and its derivatives (R, 5).
_LogLoss: TypeAlias = Callable[[Array, Array, Array], tuple[Array, Array]]


def fit_law(
    runs: Runs,
    form_name: str = "tied",
    *,
    weights: Array | None = None,
    start: Law | None = None,
    repetition: Repetition = TOKENS_ONLY,
) -> Law:
    """The law of a form that fits the runs best.

    Args:
        runs: at least one more than the form has constants.
        form_name: tied, chinchilla or kaplan.
        weights: (R,) how often each run counts; once by default.
        start: begin here alone, such as at the fit to almost the same runs, instead of at many places.
        repetition: what repeated text is worth, whatever the size of the model.

    Raises:
        UserError: an unknown form, or too few runs for it.
    """
    kind = form(form_name)
    if len(runs) <= kind.num_constants:
        raise UserError(
            f"{len(runs)} runs are too few for the form '{form_name}' with {kind.num_constants} constants; "
            f"give {kind.num_constants + 1} or more"
        )
    law = _fit_fresh(_as_fresh(runs, repetition), kind, weights, start)
    return replace(law, unit=runs.unit, repetition=repetition)


def objective(law: Law, runs: Runs) -> float:
    """The summed Huber loss of the log losses, as in the papers."""
    return float(DELTA**2 * _huber(residuals(law, runs) / DELTA)[0].sum())


def residuals(law: Law, runs: Runs) -> Array:
    """(R,) how much higher the law is than the runs, as differences of log losses."""
    expected = [law.loss(*run) for run in zip(runs.parameters, runs.tokens, _unique(runs), strict=True)]
    return np.log(np.array(expected)) - np.log(runs.losses)


def _unique(runs: Runs) -> list[float] | list[None]:
    return [None] * len(runs) if runs.unique_tokens is None else list(runs.unique_tokens)


def _as_fresh(runs: Runs, repetition: Repetition) -> Runs:
    """The runs as if no text had been read twice: with the tokens that theirs were worth, without overfitting."""
    if runs.unique_tokens is None:
        return runs
    rows = zip(runs.parameters, runs.tokens, runs.unique_tokens, strict=True)
    worths = [repetition.worth(*row, optimal_parameters=np.inf) for row in rows]
    return replace(
        runs,
        tokens=np.array([worth.tokens for worth in worths]),
        losses=runs.losses / (1.0 + np.array([worth.overfitting for worth in worths])),
        unique_tokens=None,
    )


def _fit_fresh(runs: Runs, kind: type[Law], weights: Array | None, start: Law | None) -> Law:
    """The search itself, about the middle of the runs: there factors and exponents do not depend on each other."""
    from scipy.optimize import minimize

    middle = np.exp(np.log(runs.parameters).mean()), np.exp(np.log(runs.tokens).mean())
    sizes, tokens = np.log(runs.parameters / middle[0]), np.log(runs.tokens / middle[1])
    logs = np.log(runs.losses)
    counts = np.ones(len(runs)) if weights is None else weights
    tied, log_loss = kind is TiedLaw, _kaplan if kind is KaplanLaw else _chinchilla

    def loss(free: Array) -> tuple[float, Array]:
        expected, slopes = log_loss(_all_constants(free), sizes, tokens)
        value, slope = _huber((expected - logs) / DELTA)
        gradient = (counts * slope) @ slopes / DELTA
        return float(counts @ value), _free_gradient(gradient, tied)

    lowest = logs[counts > 0].min()
    # A term that is nothing in the middle of the runs would drift to any constants.
    factor_bounds = (None, None) if kind is KaplanLaw else (lowest + np.log(_LEAST_TERM), None)
    bounds = [(lowest + np.log(_LEAST_SHARE), lowest), factor_bounds, factor_bounds]
    bounds += [(_LEAST_EXPONENT, _MOST_EXPONENT)] * (1 if tied else 2)
    if start is None:
        starts = [_free(point, tied) for point in _starts(runs.losses, sizes, tokens, kind)]
        starts = sorted(starts, key=lambda point: loss(point)[0])[:_BEST_STARTS]
    else:
        starts = [_free(_from_law(start, middle), tied)]
    found = [
        minimize(loss, point, jac=True, method="L-BFGS-B", bounds=bounds, options=_OPTIONS) for point in starts
    ]
    best = min(found, key=lambda result: float(result.fun))
    return _to_law(_all_constants(best.x), kind, middle)


_OPTIONS = {"maxiter": 3000, "maxfun": 6000, "ftol": 1e-13, "gtol": 1e-7, "maxcor": 20}


def _huber(scaled: Array) -> tuple[Array, Array]:
    """The Huber loss of residuals in units of its threshold, and its slope."""
    size = np.abs(scaled)
    return np.where(size <= 1.0, 0.5 * scaled**2, size - 0.5), np.clip(scaled, -1.0, 1.0)


def _chinchilla(constants: Array, sizes: Array, tokens: Array) -> tuple[Array, Array]:
    """A log-sum-exp of log E, log A - alpha log N and log B - beta log D."""
    e, a, b, alpha, beta = constants
    terms = np.stack([np.full_like(sizes, e), a - alpha * sizes, b - beta * tokens])
    top = terms.max(axis=0)
    shares = np.exp(terms - top)
    total = shares.sum(axis=0)
    shares /= total
    of_e, of_a, of_b = shares
    return top + np.log(total), np.stack([of_e, of_a, of_b, -sizes * of_a, -tokens * of_b], axis=1)


def _kaplan(constants: Array, sizes: Array, tokens: Array) -> tuple[Array, Array]:
    """A log-sum-exp of log E and beta times that of (alpha / beta) log (A / N) and log (B / D)."""
    e, a, b, alpha, beta = constants
    above = a - sizes
    of_size, of_data = alpha / beta * above, b - tokens
    joint = np.logaddexp(of_size, of_data)
    share = np.exp(of_size - joint)
    expected = np.logaddexp(e, beta * joint)
    of_e = np.exp(e - expected)
    slopes = [alpha * share, beta * (1.0 - share), share * above, joint - share * of_size]
    return expected, np.stack([of_e, *((1.0 - of_e) * slope for slope in slopes)], axis=1)


def _starts(losses: Array, sizes: Array, tokens: Array, kind: type[Law]) -> list[Array]:
    """Constants (5,) for several exponents and E; factors by least squares of relative errors, none below 0."""
    points = []
    for share, alpha, beta in product(_SHARES, _EXPONENTS, _EXPONENTS):
        if kind is TiedLaw and alpha != beta:
            continue
        floor = share * losses.min()
        above = losses - floor
        size_power, data_power, power = (alpha / beta, 1.0, beta) if kind is KaplanLaw else (alpha, beta, 1.0)
        target = above ** (1.0 / power)
        columns = np.stack([np.exp(-size_power * sizes), np.exp(-data_power * tokens)], axis=1) / target[:, None]
        factors = np.linalg.lstsq(columns, np.ones_like(losses), rcond=None)[0]
        size_factor, data_factor = np.maximum(factors, 1e-3 * target.mean())
        # Kaplan's A is inside the power of alpha / beta.
        log_size = np.log(size_factor) / (size_power if kind is KaplanLaw else 1.0)
        points.append(np.array([np.log(floor), log_size, np.log(data_factor), alpha, beta]))
    return points


def _free(constants: Array, tied: bool) -> Array:
    return constants[:4] if tied else constants


def _all_constants(free: Array) -> Array:
    return np.append(free, free[3]) if len(free) == 4 else free


def _free_gradient(gradient: Array, tied: bool) -> Array:
    return np.append(gradient[:3], gradient[3] + gradient[4]) if tied else gradient


def _from_law(law: Law, middle: tuple[float, float]) -> Array:
    """Log E, log A, log B, alpha, beta, where sizes and tokens are counted in those of the middle."""
    irreducible, size_factor, alpha, data_factor, beta = law.constants
    powers = (alpha, beta) if isinstance(law, ChinchillaLaw) else (1.0, 1.0)
    log_size = np.log(size_factor) - powers[0] * np.log(middle[0])
    log_data = np.log(data_factor) - powers[1] * np.log(middle[1])
    return np.array([np.log(max(irreducible, 1e-12)), log_size, log_data, alpha, beta])


def _to_law(constants: Array, kind: type[Law], middle: tuple[float, float]) -> Law:
    e, a, b, alpha, beta = map(float, constants)
    powers = (alpha, beta) if issubclass(kind, ChinchillaLaw) else (1.0, 1.0)
    size_factor = np.exp(a + powers[0] * np.log(middle[0]))
    data_factor = np.exp(b + powers[1] * np.log(middle[1]))
    return kind(float(np.exp(e)), float(size_factor), alpha, float(data_factor), beta)
