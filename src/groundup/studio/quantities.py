"""Numbers as people read them: three significant digits, a prefix, a unit."""

import math
from collections.abc import Callable

_SPACE = "\N{NO-BREAK SPACE}"
_MISSING = "–"
_MINUS = "\N{MINUS SIGN}"
_COUNT_PREFIXES = ("", "k", "M", "B", "T")  # billions are B in this field, not G
_SI_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


def quantity(value: float | None, unit: str) -> str:
    """`value` in the notation of `unit`, one of `UNITS`; a dash where there is no finite number."""
    if value is None or not math.isfinite(value):
        return _MISSING
    return UNITS[unit](value)


def _scaled(value: float, prefixes: tuple[str, ...]) -> tuple[str, str]:
    """Three significant digits, and the prefix that they are counted in."""
    step = 0
    while abs(value) >= 999.5 and step < len(prefixes) - 1:  # 999.5 would be rounded to 1000
        value /= 1000
        step += 1
    digits = f"{value:.0f}" if abs(value) >= 999.5 else f"{value:#.3g}".rstrip(".")
    return digits, prefixes[step]


def _count(value: float) -> str:
    """`1,500` or `1.23 M`: small counts are exact."""
    if value == int(value) and abs(value) < 10_000:
        return f"{int(value):,}"
    digits, prefix = _scaled(value, _COUNT_PREFIXES)
    return f"{digits}{_SPACE}{prefix}".rstrip(_SPACE)


def _with_unit(unit: str) -> Callable[[float], str]:
    def written(value: float) -> str:
        digits, prefix = _scaled(value, _SI_PREFIXES) if value else ("0", "")
        return f"{digits}{_SPACE}{prefix}{unit}"

    return written


def _seconds(value: float) -> str:
    """`0.42 ms`, `350 ms`, `4.52 s`, `4 min 5 s`, `3 h 12 min` or `2 d 4 h`."""
    if 0 < value < 0.00995:
        return f"{value * 1000:.2g}{_SPACE}ms"
    if value < 0.9995:
        return f"{value * 1000:.0f}{_SPACE}ms"
    if value < 59.95:
        return f"{value:#.3g}{_SPACE}s"
    for large, small, size in (("min", "s", 1), ("h", "min", 60), ("d", "h", 3600)):
        whole, rest = divmod(round(value / size), 24 if large == "d" else 60)
        if large == "d" or whole < (24 if large == "h" else 60):
            return f"{whole}{_SPACE}{large}" + (f" {rest}{_SPACE}{small}" if rest else "")
    raise AssertionError("days take all that is longer")


def _digits_of_milliseconds(value: float) -> str:
    """`0.04`, `12.3` or `1,450`: never in another unit, since parts of a step stand below one another."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _energy(value: float) -> str:
    """Watt-hours with two digits: energy is estimated, not measured."""
    small = value < 0.995
    digits, prefix = _scaled(float(f"{value * 1000 if small else value:.2g}"), _SI_PREFIXES)
    digits = f"{float(digits):g}"
    return f"≈{_SPACE}{digits}{_SPACE}{'m' if small else prefix}Wh"


def _computation(value: float) -> str:
    """`3.42 PFLOP`, and from an EFLOP on `5.76e23 FLOP`, as budgets are written."""
    if abs(value) < 0.9995e18:
        return _with_unit("FLOP")(value)
    return f"{value:.2e}{_SPACE}FLOP".replace("e+", "e")


def _usd(value: float) -> str:
    """`$0.0042`, `$2.50`, `$1,234` or `$1.23 M`."""
    sign = _MINUS if value < 0 else ""
    amount = abs(value)
    if amount < 0.995:
        return f"{sign}${amount:.2g}" if amount < 0.0995 else f"{sign}${amount:.2f}"
    if amount < 99.995:
        return f"{sign}${amount:.2f}"
    return f"{sign}${amount:,.0f}" if amount < 999_500 else f"{sign}${_count(amount)}"


def _kilograms(value: float) -> str:
    """`350 g`, `12.3 kg` or `1.23 t`."""
    for unit, size in (("g", 1e-3), ("kg", 1.0)):
        if abs(value) < 999.5 * size:
            return f"{value / size:#.3g}".rstrip(".") + f"{_SPACE}{unit}"
    digits, prefix = _scaled(value / 1000, _COUNT_PREFIXES)
    return f"{digits}{_SPACE}{prefix}t"


def _percent(value: float) -> str:
    return f"{_digits_of_percent(value)}{_SPACE}%"


def _signed_percent(value: float) -> str:
    sign = "+" if value > 0 else _MINUS if value < 0 else ""
    return f"{sign}{_digits_of_percent(abs(value))}{_SPACE}%"


def _digits_of_percent(value: float) -> str:
    share = 100 * value
    if 0 < share < 0.05:
        return "< 0.1"
    if -0.05 < share < 0:
        return "0.0"
    return f"{share:.0f}" if abs(share) >= 99.95 else f"{share:.1f}"


UNITS: dict[str, Callable[[float], str]] = {
    "count": _count,
    "number": lambda value: f"{value:#.3g}".rstrip(".") if abs(value) < 999.5 else f"{value:,.0f}",
    "exact": lambda value: f"{value:,.0f}",
    "bits": lambda value: f"{value:.3f}",
    "seconds": _seconds,
    "milliseconds": lambda value: f"{_digits_of_milliseconds(1000 * value)}{_SPACE}ms",
    "bytes": _with_unit("B"),
    "bytes_per_second": _with_unit("B/s"),
    "flops": _with_unit("FLOP"),
    "flops_per_second": _with_unit("FLOP/s"),
    "computation": _computation,
    "energy": _energy,
    "kwh": lambda value: _energy(1000 * value),
    "watts": _with_unit("W"),
    "kg": _kilograms,
    "usd": _usd,
    "usd_per_hour": lambda value: f"{_usd(value)}/h",
    "percent": _percent,
    "signed_percent": _signed_percent,
    "lr": lambda value: f"{value:.2e}".replace("e-0", "e-").replace("e+0", "e+"),
}
"""How to write a value of each unit; shares are written as percent."""
