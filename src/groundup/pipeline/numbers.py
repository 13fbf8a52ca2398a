"""Numbers as people read them."""

import math


def human(value: float) -> str:
    """Three digits and a prefix: 1.23M, 45.6k, 789."""
    for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:  # what three digits would round up to it
            return f"{value / size:.3g}{prefix}"
    return f"{value:.3g}"


def bytes_text(value: float) -> str:
    """Bytes in decimal units: 6.1 MB."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= 0.9995 * size:  # what three digits would round up to it
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} bytes"


def seconds_text(seconds: float) -> str:
    """A duration: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min; ? where it is not known."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
