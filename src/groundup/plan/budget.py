"""What a run may cost: time, computation, tokens or steps, read from text such as `10m` or `5e15flop`."""

import re
from dataclasses import dataclass
from typing import Literal

from groundup.errors import UserError

Kind = Literal["seconds", "flops", "tokens", "steps"]

_UNITS: dict[str, tuple[Kind, float]] = {
    "s": ("seconds", 1.0),
    "m": ("seconds", 60.0),
    "h": ("seconds", 3600.0),
    "d": ("seconds", 86400.0),
    "flop": ("flops", 1.0),
    "tok": ("tokens", 1.0),
    "ktok": ("tokens", 1e3),
    "Mtok": ("tokens", 1e6),
    "Btok": ("tokens", 1e9),
    "Ttok": ("tokens", 1e12),
    "steps": ("steps", 1.0),
}
_SPELLINGS = {
    "sec": "s", "seconds": "s", "min": "m", "minutes": "m", "hours": "h", "days": "d",
    "flops": "flop", "token": "tok", "tokens": "tok", "mtok": "Mtok", "btok": "Btok", "step": "steps",
}  # fmt: skip


@dataclass(frozen=True)
class Budget:
    """An amount of one kind: seconds of wall clock, floating-point operations, training tokens or steps."""

    kind: Kind
    amount: float


def parse_budget(text: str) -> Budget:
    """`90s`, `10m`, `2h`, `1h30m`, `5e15flop`, `200ktok`, `50Mtok`, `500steps` -> Budget; UserError otherwise."""
    parts = re.findall(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]+)", text)
    written = "".join(number + unit for number, unit in parts)
    if not parts or written != re.sub(r"\s", "", text):
        raise _not_a_budget(text)
    amounts: dict[Kind, float] = {}
    for number, unit in parts:
        name = _SPELLINGS.get(unit.lower(), unit)
        if name not in _UNITS:
            raise _not_a_budget(text)
        kind, factor = _UNITS[name]
        try:
            amounts[kind] = amounts.get(kind, 0.0) + float(number) * factor
        except ValueError:
            raise _not_a_budget(text) from None
    (kind, amount), *others = amounts.items()
    if others or not 0 < amount < float("inf"):
        raise _not_a_budget(text)
    if kind in {"tokens", "steps"} and amount < 1:
        raise UserError(f"--budget {text} is less than one {kind.removesuffix('s')}; give more")
    return Budget(kind, amount)


def _not_a_budget(text: str) -> UserError:
    return UserError(
        f"--budget '{text}' is not understood; write time (90s, 10m, 2h), computation (5e15flop), "
        "tokens (200ktok, 50Mtok) or steps (500steps)"
    )
