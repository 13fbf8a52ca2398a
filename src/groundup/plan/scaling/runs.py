"""The runs that a law is fitted to: a table of model sizes, tokens and losses, read from CSV, JSONL or a sweep."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from groundup.errors import UserError, nearest
from groundup.plan.scaling.laws import Array, LossUnit

ROWS = "runs.jsonl"
"""What a sweep calls its table."""

# The names under which a column is found, the first that is there.
_PARAMETERS = ("parameters", "N", "params", "Model Size", "model_size")
_TOKENS = ("tokens", "D", "train_tokens")
_FLOPS = ("flops", "C", "Training FLOP", "training_flop")
_LOSS = ("bits_per_byte", "loss", "val_loss")
_OPTIONAL = ("unique_tokens", "seconds")


@dataclass(frozen=True)
class Runs:
    """Arrays (R,) over runs: parameters, tokens, losses; and, where known, FLOPs, seconds and unique tokens."""

    parameters: Array
    tokens: Array
    losses: Array
    unit: LossUnit = "nats per token"
    flops: Array | None = None
    seconds: Array | None = None
    unique_tokens: Array | None = None

    def __len__(self) -> int:
        return len(self.losses)

    @property
    def compute(self) -> Array:
        """FLOPs as given, or 6 N D."""
        return 6.0 * self.parameters * self.tokens if self.flops is None else self.flops

    def take(self, which: "np.typing.NDArray[Any]") -> Self:
        """Some of the runs, by index or mask."""
        columns = ("parameters", "tokens", "losses", "flops", "seconds", "unique_tokens")
        found = {name: getattr(self, name) for name in columns}
        return replace(self, **{name: column[which] for name, column in found.items() if column is not None})


def read_runs(source: Path, loss_column: str | None = None, where: Mapping[str, str] | None = None) -> Runs:
    """Runs from a .csv or .jsonl file, or a sweep's folder.

    Args:
        source: has columns for parameters and tokens (or FLOPs) and a loss, under the names usual for them.
        loss_column: which one is the loss; else bits_per_byte or loss.
        where: only rows in which these columns have these values.

    Raises:
        UserError: no such file, no such column, or a value that is no positive number.
    """
    rows = _rows(source, where or {})
    columns = list(rows[0])
    if loss_column is not None and loss_column not in columns:
        raise UserError(f"{source} has no column '{loss_column}'{nearest(loss_column, columns)}")
    loss = loss_column or _find(source, columns, _LOSS, "loss; name it with --loss-column")
    parameters = _numbers(source, rows, _find(source, columns, _PARAMETERS, "model sizes"))
    flops_column = next((name for name in _FLOPS if name in columns), None)
    flops = _numbers(source, rows, flops_column) if flops_column else None
    if flops is not None and not set(_TOKENS) & set(columns):
        tokens = flops / (6.0 * parameters)
    else:
        tokens = _numbers(source, rows, _find(source, columns, _TOKENS, "training tokens"))
    optional = {name: _numbers(source, rows, name) for name in _OPTIONAL if name in columns}
    return Runs(
        parameters,
        tokens,
        _numbers(source, rows, loss),
        unit="bits per byte" if loss == "bits_per_byte" else "nats per token",
        flops=flops,
        **optional,
    )


def _rows(source: Path, where: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
    file = source / ROWS if source.is_dir() else source
    if not file.is_file():
        raise UserError(
            f"there is no {file}; give a .csv or .jsonl file, or the folder of a `groundup scaling sweep`"
        )
    try:
        text = file.read_text("utf-8")
        rows: list[Mapping[str, Any]]
        if file.suffix == ".csv":
            rows = list(csv.DictReader(text.splitlines()))
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise UserError(f"{file} cannot be read: {error}; give a .csv file, or one JSON object a line") from None
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{file} is not a table; give one JSON object a line")
    for column, value in where.items():
        if rows and column not in rows[0]:
            raise UserError(f"{file} has no column '{column}'{nearest(column, rows[0])}")
        rows = [row for row in rows if str(row.get(column)) == value]
    if not rows:
        raise UserError(f"{file} has no rows{' with these values' if where else ''}; a law needs some runs")
    return rows


def _find(source: Path, columns: Sequence[str], names: Sequence[str], what: str) -> str:
    found = next((name for name in names if name in columns), None)
    if found is None:
        raise UserError(f"{source} has no column for {what} (looked for {', '.join(names)})")
    return found


def _numbers(source: Path, rows: Sequence[Mapping[str, Any]], column: str) -> Array:
    values = []
    for number, row in enumerate(rows, start=1):
        try:
            value = float(row[column])
        except (KeyError, TypeError, ValueError):
            value = np.nan
        if not 0.0 < value < np.inf:
            raise UserError(f"{source}, row {number}: {column}={row.get(column)!r} is not a positive number")
        values.append(value)
    return np.array(values)
