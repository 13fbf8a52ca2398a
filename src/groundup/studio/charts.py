"""The charts, as plotly figures in plain dictionaries.

Colours are names of the page's CSS variables (`var(--train)`), so that one figure serves light and dark. A
trace has no x: `progress` holds it in steps, tokens and time, and the page puts in the one that is chosen.
"""

from typing import Any

from groundup.studio.curves import PROGRESS, Curve

Figure = dict[str, Any]

_CLOCKS = ((1.0, 1e-3, "ms"), (180.0, 1.0, "s"), (3 * 3600.0, 60.0, "min"), (72 * 3600.0, 3600.0, "h"))
_DAYS = (86400.0, "d")


def figures(facts: dict[str, Any]) -> dict[str, Figure]:
    """A figure for each chart of the page, by name, from `summary.summary`; empty before the first step."""
    curves = facts["curves"]
    if not curves["loss"]["step"]:
        return {}
    size, unit = clock(curves["loss"]["seconds"][-1] or 0.0)
    answers = "answers" if facts["by_objective"] else "tokens"
    axes = {"step": "step", "tokens": answers, "seconds": f"training time ({unit})"}
    built = {
        "loss": _loss(facts),
        "lr": _learning_rate(curves),
        "grad_norm": _gradient(curves, facts["clip"]),
        "throughput": _throughput(
            curves, answers, None if facts["by_objective"] else facts["plan"].get("tokens_per_second")
        ),
    }
    if any(value is not None for value in curves["validation_accuracy"]["values"]):
        built["accuracy"] = _accuracy(curves, facts["measured"].get("baseline_accuracy"))
    for figure in built.values():
        figure["axes"] = axes
        for trace in figure["data"]:
            trace["progress"]["seconds"] = [_times(value, 1 / size) for value in trace["progress"]["seconds"]]
    return built


def clock(longest: float) -> tuple[float, str]:
    """The unit in which times up to `longest` seconds read best: its length in seconds, its symbol."""
    return next(((size, unit) for limit, size, unit in _CLOCKS if longest <= limit), _DAYS)


def _loss(facts: dict[str, Any]) -> Figure:
    """Loss on training batches and held-out rows; a decoder's in bits per byte where bytes per token are known."""
    curves, plan, factor = facts["curves"], facts["plan"], facts["bits_per_byte_per_nat"]
    by_objective = facts["by_objective"]
    factor = None if by_objective else factor
    unit = "bits per byte" if factor else "nats an answer" if by_objective else "nats per token"
    kind = "rows" if by_objective else "text"
    in_unit = {
        name: curves[name] | {"values": [_times(value, factor or 1.0) for value in curves[name]["values"]]}
        for name in ("loss", "loss_smooth")
    }
    held_out = curves["validation"] if factor else curves["validation_loss"]
    hover = "%{y:.3f} " + unit
    figure = _figure(
        [
            _faint(in_unit["loss"], "each batch"),
            _line(in_unit["loss_smooth"], f"training {kind}", "train", hover),
            _line(held_out, f"held-out {kind}", "held-out", hover)
            | {
                "mode": "lines+markers",
                "cliponaxis": False,
                "line": {"color": "var(--held-out)", "width": 1.5, "dash": "dot"},
                "marker": {"size": 8, "color": "var(--held-out)", "line": {"color": "var(--card)", "width": 1.5}},
            },
        ],
        unit,
    )
    if (baseline := facts["measured"].get("baseline_loss")) is not None:
        figure["layout"]["shapes"] = [_level(baseline)]
    if factor and "bits_per_byte_low" in plan:
        figure["layout"] |= _band(plan["bits_per_byte_low"], plan["bits_per_byte_high"])
    return figure


def _accuracy(curves: dict[str, Curve], baseline: float | None) -> Figure:
    """The share of held-out answers that are right, beside that of always giving the most frequent one."""
    hover = "%{y:.1%} right"
    figure = _figure([_line(curves["validation_accuracy"], "held-out rows", "held-out", hover)], "right answers")
    figure["data"][0]["mode"] = "lines+markers"
    figure["layout"]["yaxis"] |= {"rangemode": "tozero", "tickformat": ".0%"}
    figure["layout"]["shapes"] = [_level(baseline)] if baseline is not None else []
    return figure


def _learning_rate(curves: dict[str, Curve]) -> Figure:
    figure = _figure([_line(curves["lr"], "learning rate", "train", "%{y:.3e}")], "learning rate")
    figure["layout"]["yaxis"] |= {"rangemode": "tozero", "exponentformat": "e"}
    return figure


def _gradient(curves: dict[str, Curve], clip: float) -> Figure:
    figure = _figure([_line(curves["grad_norm"], "gradient norm", "train", "%{y:.3g}")], "gradient norm")
    figure["data"][0]["line"]["width"] = 1
    figure["layout"]["yaxis"] |= {"type": "log", "dtick": "D2", "tickformat": "~g"}
    figure["layout"]["shapes"] = [_level(clip)]
    return figure


def _throughput(curves: dict[str, Curve], counted: str, predicted: float | None) -> Figure:
    """What is counted is what the rows of metrics count: of other families the answers, not what was read."""
    hover = f"%{{y:.3s}} {counted}/s"
    lines = [
        _faint(curves["tokens_per_second"], "each step"),
        _line(curves["tokens_per_second_smooth"], f"{counted} per second", "train", hover),
    ]
    figure = _figure(lines, f"{counted} per second")
    figure["layout"]["yaxis"] |= {"rangemode": "tozero", "tickformat": "~s"}
    figure["layout"]["shapes"] = [_level(predicted)] if predicted else []
    return figure


def _figure(traces: list[dict[str, Any]], y_title: str) -> Figure:
    return {"data": traces, "layout": {"yaxis": {"title": {"text": y_title}}}}


def _line(curve: Curve, name: str, colour: str, hover: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines" if len(curve["values"]) > 1 else "markers",
        "name": name,
        "progress": {axis: curve[axis] for axis in PROGRESS},
        "y": curve["values"],
        "line": {"color": f"var(--{colour})", "width": 2},
        "hovertemplate": hover,
    }


def _faint(curve: Curve, name: str) -> dict[str, Any]:
    """The values as they were measured, behind their smoothed line."""
    return _line(curve, name, "raw", "") | {
        "line": {"color": "var(--raw)", "width": 1},
        "hoverinfo": "skip",
        "hovertemplate": None,
    }


def _band(low: float, high: float) -> dict[str, Any]:
    """A stripe over the whole width: the range in which the final loss was predicted."""
    stripe = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": low, "y1": high, "layer": "below"}
    colours = {"fillcolor": "var(--plan-faint)", "line": {"width": 0}}
    place = {"xref": "paper", "x": 1, "xanchor": "right", "y": high, "yanchor": "bottom", "showarrow": False}
    text = {
        "text": f"predicted for the end: {low:.2f} to {high:.2f}",
        "font": {"color": "var(--plan)", "size": 12},
    }
    return {"shapes": [stripe | colours], "annotations": [place | text]}


def _level(value: float) -> dict[str, Any]:
    """A dashed line over the whole width."""
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": value, "y1": value}
    return line | {"line": {"color": "var(--plan)", "width": 1.5, "dash": "dash"}}


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else float(f"{value * factor:.7g}")
