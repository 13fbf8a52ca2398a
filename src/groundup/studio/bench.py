"""Pages about speed: a sweep over settings of the training step, and where the time of a step goes."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from groundup.studio.page import asset, plotly, render_page

Row = Mapping[str, Any]

_STYLES = ["report.css", "bench.css"]
# Settings by which points can be coloured, with the values in the order in which they are shown.
_SETTINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "precision": ("Precision", ("fp32", "bf16", "bf16-weights", "fp16")),
    "recompute": ("Recomputation", ("none", "selective", "full")),
    "compile": ("Compilation", ("off", "on")),
    "micro_batch": ("Micro-batch", ()),
    "accumulation": ("Accumulation", ()),
}
_SHOWN = (*_SETTINGS, "batch_size", "tokens_per_second", "utilisation", "peak_bytes", "step_seconds", "error")


def render_sweep(subject: Mapping[str, Any], rows: Sequence[Row], own: Row, num_points: int) -> str:
    """The page of a sweep.

    Args:
        subject: what was measured (see `pipeline.bench_subject`).
        rows: a point each; with `error` instead of figures where it failed.
        own: the settings of the recipe itself.
        num_points: how many points the sweep has when it is finished.
    """
    scripts = [plotly(), asset("plotting.js"), asset("bench.js")]
    return render_page("bench.html.j2", _STYLES, scripts, sweep_facts(subject, rows, own, num_points))


def sweep_facts(subject: Mapping[str, Any], rows: Sequence[Row], own: Row, num_points: int) -> dict[str, Any]:
    """What the page of a sweep shows, as plain data; points from the fastest to the slowest."""
    points = [{name: row[name] for name in _SHOWN if name in row} for row in rows]
    for point in points:
        point["name"] = _name(point)
        point["own"] = all(point[name] == value for name, value in own.items())
    good = sorted((point for point in points if "error" not in point), key=lambda row: -row["tokens_per_second"])
    return {
        "subject": subject,
        "points": good,
        "failures": [point for point in points if "error" in point],
        "num_points": num_points,
        "fastest": good[0] if good else None,
        "best_used": max(good, key=lambda row: row["utilisation"], default=None),
        "smallest": min(good, key=lambda row: row["peak_bytes"], default=None),
        "own": next((point for point in good if point["own"]), None),
        "effects": effects(good),
        "settings": [
            {"field": field, "name": name, "values": _values(field, order, good)}
            for field, (name, order) in _SETTINGS.items()
        ],
    }


def _name(point: Row) -> str:
    compiled = "compiled" if point["compile"] == "on" else "eager"
    recompute = "" if point["recompute"] == "none" else f", recompute {point['recompute']}"
    return f"{point['micro_batch']} × {point['accumulation']}, {point['precision']}, {compiled}{recompute}"


def _values(field: str, order: Sequence[str], points: Sequence[Row]) -> list[Any]:
    """The values of a setting that are there, in their order."""
    there = {point[field] for point in points}
    return [value for value in order if value in there] or sorted(there)


def effects(points: Sequence[Row]) -> list[dict[str, Any]]:
    """What each setting does, all else being equal: medians of ratios over all pairs that differ in it alone.

    Each value is held against the first one of its setting that is there; accumulation
    in batches of the same size.
    """
    made = []
    for field, (name, order) in _SETTINGS.items():
        # With accumulation, the micro-batches of a batch are given.
        pool = [point for point in points if point["accumulation"] == 1] if field == "micro_batch" else points
        reference, *others = _values(field, order, pool) or [None]
        for value in others:
            pairs = list(_pairs(pool, field, reference, value))
            if pairs:
                made.append(
                    {
                        "setting": name,
                        "value": value,
                        "reference": reference,
                        "pairs": len(pairs),
                        **{
                            figure: median(other[figure] / base[figure] for base, other in pairs)
                            for figure in ("tokens_per_second", "peak_bytes")
                        },
                    }
                )
    return made


def _pairs(points: Sequence[Row], field: str, reference: Any, value: Any) -> Iterator[tuple[Row, Row]]:
    """Points with the reference and the value of a setting, else the same."""
    rest = [name for name in _SETTINGS if name != field]
    if field == "accumulation":
        rest[rest.index("micro_batch")] = "batch_size"
    by_rest = {tuple(point[name] for name in rest): point for point in points if point[field] == reference}
    for point in points:
        if point[field] == value and (base := by_rest.get(tuple(point[name] for name in rest))):
            yield base, point


def render_profile(subject: Mapping[str, Any], profile: Mapping[str, Any]) -> str:
    """The page that says where the time of a step goes (see `pipeline.bench_profile.record`)."""
    facts = {
        "subject": subject,
        "profile": profile,
        "greatest": max(row["share"] for row in profile["modules"]),
    }
    return render_page("bench_profile.html.j2", _STYLES, [], facts)
