"""The page of `groundup bench parallel`: each process's step over time, and figures of each layout beside theory.

Colours are names of the page's CSS variables, as in `charts`.
"""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from groundup.studio.page import asset, plotly, render_page
from groundup.studio.quantities import quantity

Row = Mapping[str, Any]

_COMPUTING = {
    "forward": "var(--hue-0)",
    "backward": "var(--hue-2)",
    "update": "var(--hue-5)",
}
_WAITING = {"idle": "var(--line)", "exposed": "var(--mark)"}
_COLLECTIVES = {
    "all-reduce": "var(--hue-1)",
    "reduce-scatter": "var(--hue-4)",
    "all-gather": "var(--hue-3)",
    "all-to-all": "var(--link)",
    "broadcast": "var(--link)",
    "send": "var(--text)",
    "receive": "var(--muted)",
}
_LABELS = {
    "update": "clipping and optimizer",
    "idle": "idle: another process is not ready",
    "exposed": "waiting for data on its way",
}
_LANES = ("computing", "sending")
_LANE_PIXELS, _FRAME_PIXELS = 26, 70
_STYLES = ["report.css", "bench.css", "bench_parallel.css"]


def render_parallel(outcome: Row) -> str:
    """The page of an outcome of `pipeline.bench_parallel`."""
    good = [row for row in outcome["layouts"] if "error" not in row]
    facts = {
        "outcome": outcome,
        "good": good,
        "failed": [row for row in outcome["layouts"] if "error" in row],
        "fastest": max(good, key=lambda row: row["tokens_per_second"], default=None),
        "sent_off": max((row["sent_error"] for row in good), key=abs, default=None),
        "kept_off": max((row["kept_error"] for row in good), key=abs, default=None),
        "legend": _legend(good),
        "figures": [timeline(row) for row in good],
        "kept_names": {
            "weights": "weights",
            "gradients": "gradients",
            "optimizer": "optimizer",
            "weights_at_work": "weights at work",
            "gradients_at_work": "gradients between micro-batches",
        },
    }
    return render_page(
        "bench_parallel.html.j2", _STYLES, [plotly(), asset("plotting.js"), asset("bench_parallel.js")], facts
    )


def timeline(row: Row) -> dict[str, Any]:
    """What plotly draws of one layout: `data`, `layout` and `height`; two rows a process, the first on top."""
    bars: dict[str, list[tuple[int, float, float, str]]] = {}
    for rank, process in enumerate(row["processes"]):
        for name, lane, begin, end, text in _spans(process["recorded"]):
            bars.setdefault(name, []).append((2 * rank + lane, begin, end - begin, text))
    count = 2 * len(row["processes"])
    labels = [f"{rank} {lane}" for rank in range(count // 2) for lane in _LANES]
    return {
        "data": [_bars(name, bars[name]) for name in _colours() if name in bars],
        "layout": {
            "barmode": "overlay",
            "showlegend": False,
            "hovermode": "closest",
            "margin": {"l": 8, "r": 12, "t": 4, "b": 8},
            "yaxis": {
                "tickvals": list(range(count)),
                "ticktext": labels,
                "range": [count - 0.5, -0.5],
                "fixedrange": True,
                "showgrid": False,
                "automargin": True,
                "tickfont": {"color": "var(--muted)", "size": 12},
            },
        },
        "height": _LANE_PIXELS * count + _FRAME_PIXELS,
    }


def _colours() -> dict[str, str]:
    return _COMPUTING | _WAITING | {"not ready": _WAITING["idle"]} | _COLLECTIVES


def _spans(recorded: Row) -> Iterable[tuple[str, int, float, float, str]]:
    """Name, lane, beginning, end and what is said of each bar of one process."""
    for phase, begin, end in recorded["phases"]:
        yield phase, 0, begin, end, _LABELS.get(phase, phase)
    for name in _WAITING:
        for begin, end in recorded[name]:
            yield name, 0, begin, end, _LABELS[name]
    for found in recorded["communications"]:
        size = f", {quantity(found['bytes'], 'bytes')}" if found["bytes"] else ""
        text = f"{found['kind']} ({found['axis']}{size})"
        if found["travels"] > found["begin"]:
            yield "not ready", 1, found["begin"], found["travels"], f"{text}: another process is not ready"
        yield found["kind"], 1, found["travels"], found["end"], text


def _bars(name: str, spans: list[tuple[int, float, float, str]]) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "width": 0.86,
        "y": [lane for lane, *_ in spans],
        "base": [round(1000 * begin, 3) for _, begin, _, _ in spans],
        "x": [round(1000 * length, 3) for _, _, length, _ in spans],
        "customdata": [escape(text) for *_, text in spans],
        "hovertemplate": "%{customdata}<br>%{x:.2f} ms from %{base:.2f} ms on<extra></extra>",
        "marker": {"color": _colours()[name], "line": {"width": 0}},
    }


def _legend(rows: list[Any]) -> list[dict[str, str]]:
    """Of what there is, in the order of the colours."""
    there = {name for row in rows for process in row["processes"] for name, *_ in _spans(process["recorded"])}
    names = [name for name in _COMPUTING | _WAITING | _COLLECTIVES if name in there]
    return [{"name": _LABELS.get(name, name), "colour": _colours()[name]} for name in names]
