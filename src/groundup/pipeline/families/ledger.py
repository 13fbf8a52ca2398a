"""What a model of any family is made of, counted from the model itself: for the report."""

from math import prod
from typing import Any

from torch import nn

from groundup.plan.tensors import size_text

_MOST_TENSORS = 4


def ledger_of(model: nn.Module) -> list[dict[str, Any]]:
    """A row for each kind of tensor: parameters that differ only in the number of their layer are one kind.

    Rows have the keys of `groundup.studio.ledger.ledger_rows`, in the order of the model; a part is a group.
    """
    kinds: dict[str, list[tuple[int, ...]]] = {}
    for name, parameter in model.named_parameters():
        kind = ".".join(part for part in name.rsplit(".", 1)[0].split(".") if not part.isdigit()) or name
        kinds.setdefault(kind, []).append(tuple(parameter.shape))
    whole = sum(parameter.numel() for parameter in model.parameters())
    return [_row(kind, sizes, whole) for kind, sizes in kinds.items()]


def _row(kind: str, sizes: list[tuple[int, ...]], whole: int) -> dict[str, Any]:
    count = sum(prod(size) for size in sizes)
    distinct = list(dict.fromkeys(sizes))
    texts = [
        size_text(size) if sizes.count(size) == 1 else f"{sizes.count(size)} of {size_text(size)}"
        for size in distinct
    ]
    return {
        "name": kind,
        "group": kind.split(".", maxsplit=1)[0],
        "role": "",
        "tensors": texts[:_MOST_TENSORS] + (["..."] if len(texts) > _MOST_TENSORS else []),
        "parameters": count,
        "share": count / whole,
    }
