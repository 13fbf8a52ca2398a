"""What a process sent in a step, by kind of collective and axis, beside theory."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from groundup.plan.cluster.sent import Sent

if TYPE_CHECKING:
    from groundup.parallel.traffic import Collective

Row = dict[str, Any]

# What stands beside no theory.
_SMALL = "sums of a few numbers"


def counted(traffic: "Sequence[Collective]") -> list[Row]:
    """By kind and axis how many collectives there were, and the bytes that this process sent for them.

    Groups of one process send nothing.
    """
    rows: dict[tuple[str, str], Row] = {}
    for record in traffic:
        if record.group_size == 1:
            continue
        key = record.kind, record.axis
        row = rows.setdefault(key, {"kind": record.kind, "axis": record.axis, "count": 0, "bytes": 0.0})
        row["count"] += 1
        row["bytes"] += record.sent_bytes
    return list(rows.values())


def beside(rows: Sequence[Row], theory: Sequence[Sent]) -> list[Row]:
    """What was counted with its purposes, formula and `theory_bytes`, None where there is no theory of it.

    What theory has and nobody sent stands at the end.
    """
    found = {(row["kind"], row["axis"]): row for row in rows}
    absent = {(one.kind, one.axis) for one in theory} - found.keys()
    for kind, axis in sorted(absent):
        found[kind, axis] = {"kind": kind, "axis": axis, "count": 0, "bytes": 0.0}
    return [row | _theory([one for one in theory if (one.kind, one.axis) == key]) for key, row in found.items()]


def _theory(same: Sequence[Sent]) -> Row:
    """Of all that goes over the same axis in the same way."""
    return {
        "purpose": ", ".join(dict.fromkeys(one.purpose for one in same)) or _SMALL,
        "formula": " + ".join(one.formula for one in same),
        "theory_bytes": sum(one.bytes for one in same) if same else None,
    }
