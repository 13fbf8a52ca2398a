"""What `groundup scaling` answers: runs, a fitted law with its errors, a prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from groundup.errors import UserError
from groundup.plan.budget import Budget
from groundup.plan.figures import Answer, Chart, Column, Figure, Series, Table, Unit
from groundup.plan.scaling.fit import objective, residuals
from groundup.plan.scaling.fitted import Fit, FittedLaw
from groundup.plan.scaling.intervals import CONFIDENCE
from groundup.plan.scaling.laws import FORMS, Law
from groundup.plan.scaling.runs import Runs

_SIZES_ABOUT = (0.25, 0.5, 1.0, 2.0, 4.0)
_CURVES, _POINTS_A_CURVE = 4, 25
_INTERVAL = (
    f"{CONFIDENCE:.0%} interval: random weights of the runs, other forms, noise and distance, in quadrature"
)
_RUN_COLUMNS: tuple[tuple[str, str, Unit], ...] = (
    ("run", "run", ""),
    ("parameters", "N", "count"),
    ("tokens", "tokens", "tokens"),
    ("flops", "computation", "flops"),
    ("seconds", "training", "seconds"),
    ("bits_per_byte", "loss", "bits per byte"),
)


def sweep_answer(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Answer:
    """The runs of a sweep, the loss of each size against its tokens."""
    best = min(rows, key=lambda row: float(row["bits_per_byte"]))
    sizes = sorted({row["parameters"] for row in rows})
    series = []
    for size in sizes:
        own = sorted((row for row in rows if row["parameters"] == size), key=lambda row: int(row["tokens"]))
        name = f"{own[0]['num_layers']} x {own[0]['width']}"
        series.append(Series(name, [row["tokens"] for row in own], [row["bits_per_byte"] for row in own]))
    return Answer(
        title=f"Sweep {folder}",
        figures=[
            Figure("folder", "folder", str(folder)),
            Figure("runs", "runs", len(rows), "count"),
            Figure("seconds", "time of all", sum(row["total_seconds"] for row in rows), "seconds"),
            Figure("bits_per_byte", "lowest loss", best["bits_per_byte"], "bits per byte"),
            Figure("size_range", "largest over smallest model", sizes[-1] / sizes[0]),
            Figure(
                "token_range",
                "most over fewest tokens",
                max(row["tokens"] for row in rows) / min(row["tokens"] for row in rows),
            ),
        ],
        tables=[
            Table(
                "sweep",
                "Runs",
                [Column(*column) for column in _RUN_COLUMNS],
                [[row[name] for name, _, _ in _RUN_COLUMNS] for row in rows],
            )
        ],
        charts=[
            Chart("sweep", "Loss by tokens, a line for each size", "lines", "tokens", "held-out loss", "tokens",
                  "bits per byte", series, log_x=True)
        ],
        notes=[f"next: groundup scaling fit {folder}"],
    )  # fmt: skip


def fit_answer(fit: Fit, runs: Runs, source: str, file: Path) -> Answer:
    """The law with its constants' intervals, how each run lies about it, and why this form."""
    fitted, law = fit.fitted, fit.fitted.law
    known = fitted.uncertainty
    off = residuals(law, runs)
    expected = runs.losses * np.exp(off)
    rows = [
        list(map(float, row)) for row in zip(runs.parameters, runs.tokens, runs.losses, expected, off, strict=True)
    ]
    return Answer(
        title=f"Law of {source}",
        figures=[
            Figure("form", "form", law.form, source=type(law).__doc__ or ""),
            *_constants(law, known.resampled),
            Figure("law", "written to", str(file)),
            Figure("runs", "runs", fitted.num_runs, "count"),
            Figure(
                "objective", "objective", objective(law, runs),
                formula="sum of Huber_0.001(log law - log loss)",
                values={"runs": fitted.num_runs},
                source="Hoffmann et al. 2022, arXiv:2203.15556; summed as by Besiroglu et al., arXiv:2404.10102",
            ),
            Figure(
                "noise", "spread of runs about the law", known.noise, "share",
                formula="sqrt(sum residual^2 / (runs - constants))",
                values={"runs": fitted.num_runs, "constants": law.num_constants},
                source="residuals of the log loss",
            ),
            Figure(
                "drift", "error of an extrapolation, a factor of e in computation", known.drift, "share",
                formula="sqrt(sum (miss^2 - noise^2) / sum log(C / C_fitted)^2)",
                values={"noise": known.noise},
                source="laws fitted to the cheapest runs, held against the most expensive ones",
            ),
            *_tokens_a_parameter(fitted, known.largest_flops),
        ],
        tables=[
            Table("forms", "Errors of each form for runs that it was not fitted to",
                  [Column("form", "form"), Column("formula", "formula"),
                   Column("left_out", "each run left out in turn", "share"),
                   Column("beyond", "largest models and longest runs", "share")],
                  [[name, FORMS[name].formula, fit.contest.left_out[name], fit.contest.beyond[name]]
                   for name in fit.contest.laws]),
            Table("residuals", "Each run beside the law",
                  [Column("parameters", "N", "count"), Column("tokens", "tokens", "tokens"),
                   Column("loss", "measured", law.unit), Column("law", "law", law.unit),
                   Column("error", "law - measured", "share")], rows),
        ],
        charts=[_iso_flop_chart(fitted, runs), _compute_chart(fitted, runs)],
        notes=[_why(fit), *_warnings(fitted, runs), f"next: groundup scaling predict {file} --budget ..."],
    )  # fmt: skip


def _constants(law: Law, resampled: Sequence[Sequence[float]]) -> list[Figure]:
    names = ("irreducible", "size_factor", "size_exponent", "data_factor", "data_exponent")
    symbols = ("E", "A", "alpha", "B", "beta")
    columns = np.array(resampled).reshape(-1, len(names))
    bounds = np.quantile(columns, (0.05, 0.95), axis=0) if len(columns) else np.full((2, len(names)), np.nan)
    figures = []
    for place, (name, symbol) in enumerate(zip(names, symbols, strict=True)):
        low, high = (float(bound[place]) if np.isfinite(bound[place]) else None for bound in bounds)
        figures.append(
            Figure(
                name,
                symbol,
                law.constants[place],
                law.unit if name == "irreducible" else "",
                source=f"{symbol} of {law.formula}; {law.origin}",
                low=low,
                high=high,
            )
        )
    return figures


def _tokens_a_parameter(fitted: FittedLaw, flops: float) -> list[Figure]:
    best = fitted.best_for_flops(flops)
    return [
        Figure(
            "tokens_per_parameter", "best tokens a parameter, for as much computation as the largest run",
            best.tokens / best.parameters,
            formula="D / N where the law is lowest at C",
            values={"C": flops, "N": best.parameters, "D": best.tokens},
            source="groundup.plan.scaling.fitted",
        )
    ]  # fmt: skip


def _why(fit: Fit) -> str:
    """Which form, and on what ground."""
    held = fit.contest
    unseen = (
        "left out in turn" if None in held.beyond.values() else "beyond those fitted (largest models, longest)"
    )
    errors = ", ".join(f"{name} {held.error(name):.2%}" for name in sorted(held.laws, key=held.error))
    rule = "tied is taken unless another is a fifth better"
    return f"form {fit.fitted.law.form}; errors of runs {unseen}: {errors}; {rule}"


def _warnings(fitted: FittedLaw, runs: Runs) -> list[str]:
    warnings = []
    sizes, tokens = (float(column.max() / column.min()) for column in (runs.parameters, runs.tokens))
    if sizes < 4 or tokens < 4:
        warnings.append(
            f"sizes differ by a factor of {sizes:.1f} and tokens by {tokens:.1f}: too little to tell what each is "
            "worth; expect the law to hold near these runs only"
        )
    if fitted.num_runs < 2 * fitted.law.num_constants:
        warnings.append(
            f"{fitted.num_runs} runs for {fitted.law.num_constants} constants, which could have come out otherwise"
        )
    return warnings


def _compute_chart(fitted: FittedLaw, runs: Runs) -> Chart:
    """Loss against computation: the runs, and the lowest loss that the law promises."""
    flops = np.geomspace(runs.compute.min(), 10 * runs.compute.max(), _POINTS_A_CURVE)
    front = [fitted.best_for_flops(float(amount)).loss for amount in flops]
    return Chart(
        "compute", "Loss by computation", "lines", "computation", "loss", "flops", fitted.law.unit,
        [
            Series("runs", *_sorted(runs.compute, runs.losses), points=True),
            Series("best by the law", flops.tolist(), front),
        ],
        log_x=True,
    )  # fmt: skip


def _sorted(
    x: "np.typing.NDArray[np.float64]", y: "np.typing.NDArray[np.float64]"
) -> tuple[list[float], list[float]]:
    order = np.argsort(x)
    return x[order].tolist(), y[order].tolist()


def _iso_flop_chart(fitted: FittedLaw, runs: Runs) -> Chart:
    """Loss against size, a curve for each of a few amounts of computation, and the runs."""
    sizes = np.geomspace(runs.parameters.min() / 3, 3 * runs.parameters.max(), _POINTS_A_CURVE)
    series = [Series("runs", *_sorted(runs.parameters, runs.losses), points=True)]
    for flops in np.geomspace(runs.compute.min(), runs.compute.max(), _CURVES):
        losses = [
            fitted.law.loss(float(size), float(flops / fitted.cost.flops_per_token(float(size)))) for size in sizes
        ]
        series.append(Series(f"{flops:.1e} FLOPs", sizes.tolist(), losses))
    return Chart(
        "isoflop", "Loss by size at the same computation, by the law", "lines", "parameters", "loss", "count",
        fitted.law.unit, series, log_x=True,
    )  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """What to predict: a budget, and a size and an amount of unique text where they are given."""

    budget: Budget
    parameters: float | None = None
    unique_tokens: float | None = None


def predict_answer(fitted: FittedLaw, wanted: Wanted) -> Answer:
    """The loss of the best model for a budget, or of one of a given size, with its interval.

    UserError for a budget that says nothing of computation, and for time where the law knows no speed.
    """
    unique = wanted.unique_tokens or fitted.unique_tokens
    parameters, tokens = size_and_tokens(fitted, wanted, unique)
    law, cost = fitted.law, fitted.cost
    found = fitted.predict(parameters, tokens, unique)
    flops = tokens * cost.flops_per_token(parameters)
    others = [_other_size(fitted, wanted, factor * parameters, unique) for factor in _SIZES_ABOUT]
    columns = [
        Column("parameters", "N", "count"), Column("tokens", "tokens", "tokens"), Column("loss", "loss", law.unit),
        Column("low", "from", law.unit), Column("high", "to", law.unit),
    ]  # fmt: skip
    names = ("E", "A", "alpha", "B", "beta")
    figures = [
        Figure(
            "loss", "loss", found.loss, law.unit,
            formula=law.formula,
            values=dict(zip(names, law.constants, strict=True))
            | {"N": parameters, "D": tokens, "unique tokens": unique},
            source=f"{law.origin}; {_INTERVAL}", low=found.low, high=found.high,
        ),
        Figure(
            "parameters", "parameters without embeddings", parameters, "count",
            formula="" if wanted.parameters else "where the law is lowest for the budget",
            source="given" if wanted.parameters else "groundup.plan.scaling.fitted",
        ),
        Figure("tokens", "training tokens", tokens, "tokens", formula="C / (C a token)",
               values={"C": flops, "C a token": cost.flops_per_token(parameters)}),
        Figure("flops", "computation", flops, "flops", formula="D (6 N + k N^p)",
               values={"k": cost.factor, "p": cost.exponent, "N": parameters, "D": tokens},
               source="of the law's runs" if cost.factor else "Kaplan et al. 2020, arXiv:2001.08361"),
        Figure("tokens_per_parameter", "tokens a parameter", tokens / parameters),
    ]  # fmt: skip
    if unique is not None:
        figures.append(Figure("epochs", "times the text is read", tokens / unique, formula="D / D unique"))
    if cost.base_seconds is not None:
        seconds = tokens * cost.seconds_per_token(parameters)
        figures.append(Figure("train_seconds", "training time on the machine of the runs", seconds, "seconds"))
    return Answer(
        title="Prediction",
        figures=figures,
        tables=[Table("sizes", "Other sizes for the same budget", columns, others)],
        charts=[
            Chart("sizes", "Loss by size for the same budget", "lines", "parameters", "loss", "count", law.unit,
                  [Series("law", [row[0] for row in others], [row[2] for row in others])], log_x=True)
        ],
        notes=_prediction_notes(fitted, flops, tokens, unique),
    )  # fmt: skip


def size_and_tokens(fitted: FittedLaw, wanted: Wanted, unique: float | None) -> tuple[float, float]:
    """The given size, or the best one, and the tokens that the budget allows for it."""
    amount, size = wanted.budget.amount, wanted.parameters
    if wanted.budget.kind == "tokens":
        return size or fitted.law.parameters_for(amount), amount
    if wanted.budget.kind == "flops":
        best = fitted.best_for_flops(amount, unique)
        return (size, amount / fitted.cost.flops_per_token(size)) if size else (best.parameters, best.tokens)
    if wanted.budget.kind == "seconds":
        best = fitted.best_for_seconds(amount, unique)
        return (size, amount / fitted.cost.seconds_per_token(size)) if size else (best.parameters, best.tokens)
    raise UserError(
        f"a law says nothing of {wanted.budget.kind}; give --budget as time (5m), computation (1e18flop) or "
        "tokens (300Mtok)"
    )


def _other_size(fitted: FittedLaw, wanted: Wanted, size: float, unique: float | None) -> list[float]:
    parameters, tokens = size_and_tokens(fitted, Wanted(wanted.budget, size), unique)
    return [parameters, tokens, *fitted.predict(parameters, tokens, unique)]


def _prediction_notes(fitted: FittedLaw, flops: float, tokens: float, unique: float | None) -> list[str]:
    notes = []
    largest = fitted.uncertainty.largest_flops
    if not fitted.num_runs:
        notes.append("a published law: the level of the loss on other text and with other tokens is another")
    elif flops > largest:
        notes.append(f"{flops / largest:.1f} times the computation of the largest of {fitted.num_runs} runs")
    if unique is not None and tokens > unique:
        notes.append(f"the text is read {tokens / unique:.1f} times")
    return notes
