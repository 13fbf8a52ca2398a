"""`planner.py laws`: the laws of the loss against runs that they were not fitted to.

    python benchmarks/planner.py laws --gadre gadre_small.csv --repeated datablations_val_losses.json \\
        --chinchilla svg_extracted_data.csv

The first two are in ../shared/data/scaling. The 240 points of Besiroglu et al. 2024 are no part of this project:
data/svg_extracted_data.csv in epoch-research/analyzing-chinchilla on GitHub. Prints the re-fit, errors and
coverage of intervals on held-out models of Gadre et al., and the fit of `repetition.MANY_EPOCHS` in
`groundup.plan.scaling` with its error on the 44 epochs that were held out.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from groundup.plan.scaling.fit import fit_law, objective
from groundup.plan.scaling.fitted import fit_runs
from groundup.plan.scaling.intervals import resampled_laws
from groundup.plan.scaling.laws import Array, Law, TiedLaw
from groundup.plan.scaling.published import MANY_EPOCHS, MUENNIGHOFF
from groundup.plan.scaling.repetition import Overfitting, Repetition
from groundup.plan.scaling.runs import Runs, read_runs
from tokenizer_rounds import print_table

_GADRE = [("c4_original", "c4_val"), ("rpj", "c4_val"), ("rw_original", "c4_val")]
# Parameters and tokens of models of the same study that are not in the file.
_LARGER = ((1.4e9, 2.8e10), (6.9e9, 1.38e11))
# Besiroglu et al. leave out the five highest losses.
_OUTLIERS = 5
# Sizes and amounts of Muennighoff et al.: 2b8 is 2.8 billion, 55b 55 billion. There is a digit after the b only
# below 10 billion, which tells where one ends and the next begins.
_SIZES = "7m|14m|20m|25m|44m|83m|146m|196m|220m|221m|280m|421m|574m|619m|1b1|1b5|2b2|2b8|3b9|4b2|8b7"
_NAME = re.compile(rf"({_SIZES})(\d{{2,3}}b|\db\d|\db|\d+m)(\d{{2,3}}b|\db\d*|\d+m)(.*)")
_LEAST_TOKENS = 1e9
# A residual of the log loss counts linearly from about here on.
_SOFT = 0.02


Row: TypeAlias = list[str]


class RepeatedRun(NamedTuple):
    """A run of Muennighoff et al.: parameters, tokens, how many of them differ, and the validation loss on C4."""

    parameters: float
    tokens: float
    unique_tokens: float
    loss: float

    @property
    def held_out(self) -> bool:
        """Those at 44 epochs: 2.8B parameters, 55B tokens, 1.25B unique."""
        return (self.parameters, self.tokens, self.unique_tokens) == (2.8e9, 55e9, 1.25e9)


def read_repeated(file: Path) -> list[RepeatedRun]:
    """The runs on text that was not deduplicated further, with names such as `2b855b11bc4seed1`."""
    runs = []
    for name, loss in json.loads(file.read_text("utf-8")).items():
        found = _NAME.fullmatch(name)
        assert found, name
        parameters, tokens, unique = (_amount(part) for part in found.groups()[:3])
        if "dedup" not in found.group(4):
            runs.append(RepeatedRun(parameters, tokens, unique, float(loss)))
    return runs


def _amount(text: str) -> float:
    whole, unit, tenths = re.fullmatch(r"(\d+)([bm])(\d*)", text).groups()  # type: ignore[union-attr]
    return float(f"{whole}.{tenths or 0}") * (1e9 if unit == "b" else 1e6)


def chinchilla_points(file: Path) -> Runs:
    """The 240 points of the re-fit."""
    runs = read_runs(file)
    return runs.take(runs.losses < np.sort(runs.losses)[-_OUTLIERS])


def law_of(constants: Array) -> Law:
    """The tied law with overfitting whose constants `fit_many_epochs` searches."""
    (irreducible, size, data, level, limit, pace), (exponent, ratio, unique, repetition) = (
        np.exp(constants[:6]),
        constants[6:],
    )
    overfitting = Overfitting(level, ratio, limit, pace, unique, repetition)
    return TiedLaw(irreducible, size, exponent, data, exponent, repetition=Repetition(None, None, overfitting))


def fit_many_epochs(runs: list[RepeatedRun]) -> Law:
    """Least squares of log losses, softened, over all runs of enough tokens that are not held out."""
    from scipy.optimize import least_squares

    fitted = [run for run in runs if run.tokens >= _LEAST_TOKENS and not run.held_out]
    logs = np.log([run.loss for run in fitted])

    def misses(constants: Array) -> Array:
        law = law_of(constants)
        return np.log([law.loss(*run[:3]) for run in fitted]) - logs

    start = np.array([0.72, 6.96, 8.44, np.log(0.25), np.log(4.0), np.log(55.0), 0.39, 1.0, 0.3, 1.4])
    return law_of(least_squares(misses, start, loss="soft_l1", f_scale=_SOFT, x_scale="jac", max_nfev=8000).x)


def _chinchilla(file: Path) -> list[Row]:
    runs = chinchilla_points(file)
    law = fit_law(runs, "chinchilla")
    spread = np.std([other.constants for other in resampled_laws(runs, law)], axis=0)
    print(f"Besiroglu re-fit of {len(runs)} points: objective {objective(law, runs):.8f}")
    rows = zip(("E", "A", "alpha", "B", "beta"), law.constants, spread, strict=True)
    print_table(["", "constant", "spread"], [[name, f"{value:.4f}", f"{sd:.4f}"] for name, value, sd in rows])
    compute = runs.compute
    known = (compute < 1.2e20) | (compute > 6e20)
    return [_held_out("Chinchilla, below 1.2e20, above 6e20 FLOPs", runs.take(known), (compute > 6e20)[known])]


def _gadre(file: Path) -> list[Row]:
    rows, predictions = [], []
    for dataset, column in _GADRE:
        runs = read_runs(file, column, {"ds": dataset})
        rows.append(
            _held_out(f"Gadre {dataset}, up to 154M, 412M", runs, runs.parameters == runs.parameters.max())
        )
        fitted = fit_runs(runs).fitted
        for parameters, tokens in _LARGER:
            found = fitted.predict(parameters, tokens)
            interval = f"{found.low:.4f} to {found.high:.4f}"
            size = f"{parameters / 1e9:.1f}B, {tokens / 1e9:.0f}B tokens"
            predictions.append([dataset, size, fitted.law.form, f"{found.loss:.4f}", interval])
    print("Fitted to all runs up to 412M, for models that are not in the file:")
    print_table(["text", "model", "form", "loss", "interval"], predictions)
    return rows


def _held_out(name: str, runs: Runs, unseen: Any) -> Row:
    fit = fit_runs(runs.take(~unseen))
    rest = runs.take(unseen)
    predictions = [fit.fitted.predict(*run) for run in zip(rest.parameters, rest.tokens, strict=True)]
    errors = np.array([found.loss for found in predictions]) / rest.losses - 1
    pairs = zip(predictions, rest.losses, strict=True)
    covered = np.mean([found.low <= loss <= found.high for found, loss in pairs])
    width = np.mean([(found.high - found.low) / found.loss / 2 for found in predictions])
    shares = (np.median(np.abs(errors)), np.abs(errors).max(), errors.mean(), width)
    return [name, fit.fitted.law.form, str(len(rest)), *(f"{share:.2%}" for share in shares), f"{covered:.0%}"]


def _repeated(file: Path) -> None:
    runs = read_repeated(file)
    law = fit_many_epochs(runs)
    fitted = [run for run in runs if run.tokens >= _LEAST_TOKENS and not run.held_out]
    errors = np.abs([law.loss(*run[:3]) / run.loss - 1 for run in fitted])
    print(
        f"Many epochs: {len(fitted)} runs, median {np.median(errors):.2%}, rms {np.sqrt(np.mean(errors**2)):.2%}"
    )
    constants = [*law.constants, *vars(law.repetition.overfitting).values()]
    print("E, A, alpha, B, beta, then the fields of Overfitting:", *(f"{float(value):.6g}" for value in constants))
    print("2.8B parameters, 55B tokens; 44 epochs were not fitted:")
    same = [run for run in runs if run.parameters == 2.8e9 and run.tokens == 55e9]
    rows = []
    for unique in sorted({run.unique_tokens for run in same}, reverse=True):
        measured = np.mean([run.loss for run in same if run.unique_tokens == unique])
        losses = [each.loss(2.8e9, 55e9, unique) / measured - 1 for each in (law, MANY_EPOCHS, MUENNIGHOFF)]
        rows.append([f"{55e9 / unique:.1f}", f"{measured:.4f}", *(f"{error:+.2%}" for error in losses)])
    print_table(["epochs", "measured", "this fit", "in use", "Muennighoff's law"], rows)


def laws(arguments: argparse.Namespace) -> None:
    """Everything that there is data for."""
    rows = _chinchilla(arguments.chinchilla) if arguments.chinchilla else []
    rows += _gadre(arguments.gadre) if arguments.gadre else []
    if rows:
        print("Form chosen and fitted without the held-out runs:")
        print_table(["held out", "form", "runs", "median", "largest", "mean", "interval +-", "covered"], rows)
    if arguments.repeated:
        _repeated(arguments.repeated)


def add(subparsers: Any) -> None:
    """The verb `laws` of benchmarks/planner.py."""
    parser = subparsers.add_parser("laws", help="laws of the loss against runs they were not fitted to")
    parser.add_argument("--gadre", type=Path, help="../shared/data/scaling/gadre_small.csv")
    parser.add_argument("--repeated", type=Path, help="../shared/data/scaling/datablations_val_losses.json")
    parser.add_argument("--chinchilla", type=Path, help="the points of Besiroglu et al. 2024")
    parser.set_defaults(run=laws)
