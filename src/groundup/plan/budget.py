"""What a run may cost: time, money, computation, tokens or steps, read from text such as `10m` or `$500`."""

import re
from dataclasses import dataclass
from typing import Literal

from groundup.errors import UserError

Kind = Literal["seconds", "usd", "flops", "tokens", "steps"]

_UNITS: dict[str, tuple[Kind, float]] = {
    "s": ("seconds", 1.0),
    "m": ("seconds", 60.0),
    "h": ("seconds", 3600.0),
    "d": ("seconds", 86400.0),
    "usd": ("usd", 1.0),
    "flop": ("flops", 1.0),
    "tok": ("tokens", 1.0),
    "ktok": ("tokens", 1e3),
    "Mtok": ("tokens", 1e6),
    "Btok": ("tokens", 1e9),
    "Ttok": ("tokens", 1e12),
    "steps": ("steps", 1.0),
}
_SPELLINGS = {
    "sec": "s", "seconds": "s", "min": "m", "minutes": "m", "hours": "h", "days": "d", "flops": "flop",
    "token": "tok", "tokens": "tok", "mtok": "Mtok", "btok": "Btok", "step": "steps",
    "usd": "usd", "dollar": "usd", "dollars": "usd",
}  # fmt: skip
_OTHER_MONEY = re.compile(
    r"[€£¥₹元]|(?<![a-z])(eur|euros?|gbp|pounds?|cny|rmb|yuan|jpy|yen|chf|inr|cad|aud)(?![a-z])"
)


@dataclass(frozen=True)
class Budget:
    """An amount of one kind: seconds of wall clock, US dollars, operations, training tokens or steps."""

    kind: Kind
    amount: float


def parse_budget(text: str) -> Budget:
    """`90s`, `1h30m`, `$500`, `500usd`, `5e15flop`, `50Mtok`, `500steps` -> Budget; UserError otherwise."""
    if _OTHER_MONEY.search(text.lower()):
        raise UserError(f"--budget {text} is not in US dollars, as prices are; convert it, for example to $500")
    plain = re.sub(r"^\s*\$([^$]*)$|^([^$]*)\$\s*$", r"\1\2usd", text)
    parts = re.findall(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]+)", plain)
    written = "".join(number + unit for number, unit in parts)
    if not parts or written != re.sub(r"\s", "", plain):
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
        f"--budget '{text}' is not understood; write time (90s, 10m, 2h), money ($500), computation (5e15flop), "
        "tokens (200ktok, 50Mtok) or steps (500steps)"
    )
