"""A planner's answer: figures that know their formula, in a form that terminal, page and JSON show alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

# How a value is written: `groundup.pipeline.answers` and `groundup.studio.answers` know these and no others.
Unit: TypeAlias = Literal[
    "", "count", "share", "bytes", "bytes/s", "seconds", "flops", "flops/s", "tokens", "tokens/s", "steps",
    "bits per byte", "nats per token", "usd", "usd/h", "kwh", "kg", "watts",
]  # fmt: skip
Value: TypeAlias = float | int | str | None


@dataclass(frozen=True)
class Figure:
    """One figure of an answer, and where it comes from.

    `name` is its key in JSON and what `--explain` asks for; by convention it ends in the unit where there is one
    (`peak_bytes`). `formula` gives `value` from the symbols in `values`: those beside each other are multiplied,
    `^` is a power; `max`, `min`, `round`, `floor` and `log2` are functions. `low` and `high` bound an interval.
    """

    name: str
    label: str
    value: Value
    unit: Unit = ""
    formula: str = ""
    values: Mapping[str, Value] = field(default_factory=dict)
    source: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Column:
    """A column of a table: its key in JSON, its heading, and the unit of its values."""

    name: str
    label: str
    unit: Unit = ""


@dataclass(frozen=True)
class Table:
    """Rows that are compared with each other, the best first where they are ranked."""

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]


@dataclass(frozen=True)
class Series:
    """The points of one line, or the bars of one colour; `x` holds numbers or, for bars, names.

    `points`: not joined, in a chart of lines.
    """

    name: str
    x: Sequence[Value]
    y: Sequence[float]
    points: bool = False


@dataclass(frozen=True)
class Chart:
    """A picture: `stack` of bars on each other, `bars` beside each other, `lines`, or `points`."""

    name: str
    title: str
    kind: Literal["stack", "bars", "lines", "points"]
    x_label: str
    y_label: str
    x_unit: Unit
    y_unit: Unit
    series: Sequence[Series]
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Answer:
    """Everything that one question to the planner is answered with.

    `figures` are read one by one, `notes` are sentences: what binds, what would make it fit, what comes next.
    """

    title: str
    figures: Sequence[Figure]
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    notes: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values: figures by name (`NAME_low` and `NAME_high` beside them), tables as rows of objects."""
        values: dict[str, Any] = {}
        for figure in self.figures:
            values[figure.name] = figure.value
            for bound in ("low", "high"):
                if (limit := getattr(figure, bound)) is not None:
                    values[f"{figure.name}_{bound}"] = limit
        for table in self.tables:
            names = [column.name for column in table.columns]
            values[table.name] = [dict(zip(names, row, strict=True)) for row in table.rows]
        return values | {"notes": list(self.notes)}
