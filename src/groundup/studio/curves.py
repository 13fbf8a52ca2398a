"""The metrics of a run as curves: read once, smoothed, thinned to what a screen can show."""

import math
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from groundup.run import Run, read_rows

Values = npt.NDArray[np.float64]
Columns = dict[str, Values]
Curve = dict[str, list[float | None]]

PROGRESS = ("step", "tokens", "seconds")
"""The three ways to measure how far a run is; each can be the x axis."""
_TRAIN = (*PROGRESS, "loss", "lr", "grad_norm", "tokens_per_second")
_VALIDATION = (*PROGRESS, "val_loss", "val_bits_per_byte", "val_accuracy")
_MOST_POINTS = 1500
_SMOOTHED_SHARE = 0.02


def read_metrics(run: Run) -> tuple[Columns, Columns]:
    """`metrics.jsonl` by column, float64 (rows,): training and validation rows; NaN where there is no value."""
    train = {name: array("d") for name in _TRAIN}
    validation = {name: array("d") for name in _VALIDATION}
    for row in read_rows(run.metrics_file):
        columns = validation if "val_loss" in row else train
        for name, column in columns.items():
            column.append(row.get(name, math.nan))
    return _as_arrays(train), _as_arrays(validation)


def _as_arrays(columns: dict[str, "array[float]"]) -> Columns:
    return {name: np.array(column, dtype=np.float64) for name, column in columns.items()}


def curves(train: Columns, validation: Columns) -> dict[str, Curve]:
    """What the charts draw, each as step, tokens, seconds and `values`, at most 1500 points long."""
    smoothed = {name: train | {name: smooth(train[name])} for name in ("loss", "tokens_per_second")}
    return {
        "loss": _curve(train, "loss"),
        "loss_smooth": _curve(smoothed["loss"], "loss"),
        "lr": _curve(train, "lr"),
        "grad_norm": _curve(train, "grad_norm"),
        "tokens_per_second": _curve(train, "tokens_per_second"),
        "tokens_per_second_smooth": _curve(smoothed["tokens_per_second"], "tokens_per_second"),
        "validation": _curve(validation, "val_bits_per_byte"),
        "validation_loss": _curve(validation, "val_loss"),
        "validation_accuracy": _curve(validation, "val_accuracy"),
    }


def _curve(columns: Columns, name: str) -> Curve:
    kept = thin(columns[name])
    return {axis: rounded(columns[axis][kept]) for axis in PROGRESS} | {"values": rounded(columns[name][kept])}


def smooth(values: Values) -> Values:
    """The mean over up to 2 % of the run to either side.

    The window is centred, so that the curve does not lag, and narrow at first, where the loss falls fast.
    """
    count = len(values)
    place = np.arange(count)
    reach = np.minimum(math.ceil(_SMOOTHED_SHARE * count), place // 3)
    first, end = place - reach, np.minimum(place + reach + 1, count)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[end] - sums[first]) / (end - first)


def thin(values: Values, most: int = _MOST_POINTS) -> npt.NDArray[np.int64]:
    """The places of at most `most` values, rising: both ends, and the least and the greatest of each stretch.

    So no spike is lost.
    """
    if len(values) <= most:
        return np.arange(len(values))
    kept = {0, len(values) - 1}
    for stretch in np.array_split(np.arange(len(values)), (most - 2) // 2):
        kept |= {int(stretch[values[stretch].argmin()]), int(stretch[values[stretch].argmax()])}
    return np.array(sorted(kept))


def rounded(values: Sequence[float] | Values) -> list[float | None]:
    """Seven significant digits, which keep the file small; None, a gap, for what is not finite."""
    return [float(f"{value:.7g}") if math.isfinite(value) else None for value in values]


def last(columns: Columns) -> dict[str, Any]:
    """The last row; empty if there is none."""
    return {name: float(column[-1]) for name, column in columns.items() if len(column)}
