"""Values of a planner's answer as people read them, in the terminal and on pages alike."""

import math

from groundup.plan.figures import Column, Figure, Unit, Value
from groundup.studio.quantities import quantity

_MISSING = "–"
# The notation of each unit, as `quantities` names it; numbers without a unit are written by `_bare`.
_NOTATIONS: dict[Unit, str] = {
    "count": "count",
    "share": "percent",
    "bytes": "bytes",
    "bytes/s": "bytes_per_second",
    "seconds": "seconds",
    "flops": "computation",
    "flops/s": "flops_per_second",
    "tokens": "count",
    "tokens/s": "count",
    "steps": "count",
    "bits per byte": "bits",
    "nats per token": "bits",
    "usd": "usd",
    "usd/h": "usd_per_hour",
    "kwh": "kwh",
    "kg": "kg",
    "watts": "watts",
}
# Units that are words: cells of a table leave them to the heading.
_WORDS: tuple[Unit, ...] = ("tokens", "tokens/s", "steps", "bits per byte", "nats per token")


def is_number(value: Value) -> bool:
    """Whether it is a number that can be written; truth values are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def cell(value: Value, unit: Unit) -> str:
    """`value`, without its unit where `heading` has it: `1.23 M`, `24.1 GB`, `45.2 %`; a dash for no number."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or not math.isfinite(value):
        return _MISSING
    return quantity(value, _NOTATIONS[unit]) if unit else _bare(value, digits=4)


def written(value: Value, unit: Unit) -> str:
    """`value` with its unit: `1.23 M tokens`."""
    return f"{cell(value, unit)} {unit}" if unit in _WORDS and is_number(value) else cell(value, unit)


def result(figure: Figure) -> str:
    """A figure's value, and its interval where it has one: `1.832 bits per byte (1.685 to 1.979)`."""
    text = written(figure.value, figure.unit)
    if figure.low is None and figure.high is None:
        return text
    low, high = (cell(bound, figure.unit) for bound in (figure.low, figure.high))
    return f"{text} ({low} to {high})"


def exact(value: Value) -> str:
    """`value` as it was put into a formula: whole numbers in full, others with six digits."""
    return _bare(value, digits=6) if isinstance(value, int | float) and is_number(value) else cell(value, "")


def heading(column: Column) -> str:
    """What stands above a column: its label, and the unit where cells leave it out and the label has it not."""
    if column.unit in _WORDS and column.unit not in column.label:
        return f"{column.label} ({column.unit})"
    return column.label


def _bare(value: float, digits: int) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    mantissa, _, exponent = f"{value:,.{digits}g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa
