"""The charts of a planner's answer, as plotly figures in plain dictionaries.

Colours are names of the page's CSS variables, as in `charts`. All text is escaped here, since plotly reads tags.
"""

import math
import textwrap
from collections.abc import Sequence
from html import escape
from typing import Any, TypeAlias

from groundup.plan.figures import Chart, Series, Unit, Value
from groundup.studio.charts import clock
from groundup.studio.values import is_number, written

# A row for each series, with None where it has no value.
Heights: TypeAlias = Sequence[Sequence[float | None]]

_NUM_HUES = 6
_DASHES = ("solid", "dash", "dot")
_SYMBOLS = ("circle", "diamond", "square")
_PATTERNS = ("", "/", ".")
# With more bars than this on an axis of numbers, they stand upright and close together.
_MOST_NAMED = 30
# Lines through more points than this are curves: their points are not marked.
_MOST_MARKED = 15
_LABEL_WIDTH = 20
# An axis of values is so much longer than the longest bar, behind which its value is written.
_ROOM = 1.25
_MOST_TICKS = 6
# Computations are written as powers of ten from here on (see `quantities`).
_WRITTEN_AS_POWERS = 1e18
# What the ticks of an axis say beside the number; other units are said in its title.
_TICKS: dict[Unit, dict[str, Any]] = {
    "": {"exponentformat": "power"},
    "count": {"exponentformat": "B"},
    "tokens": {"exponentformat": "B"},
    "tokens/s": {"exponentformat": "B"},
    "steps": {"exponentformat": "B"},
    "share": {"tickformat": "~p"},
    "bytes": {"tickformat": "~s", "ticksuffix": "B"},
    "bytes/s": {"tickformat": "~s", "ticksuffix": "B/s"},
    "flops": {"exponentformat": "power"},
    "flops/s": {"tickformat": "~s", "ticksuffix": "FLOP/s"},
    "usd": {"tickprefix": "$", "exponentformat": "B"},
    "usd/h": {"tickprefix": "$", "ticksuffix": "/h", "exponentformat": "B"},
    "kwh": {"exponentformat": "B"},
    "kg": {"exponentformat": "B"},
    "watts": {"tickformat": "~s", "ticksuffix": "W"},
}
_IN_TITLE: dict[Unit, str] = {"tokens": "tokens", "tokens/s": "tokens/s", "steps": "steps", "flops": "FLOP",
                              "bits per byte": "bits per byte", "nats per token": "nats per token",
                              "kwh": "kWh", "kg": "kg"}  # fmt: skip
_TIMES = (("s", 1.0, (1e-3, 1e-2, 0.1, 1, 2, 5, 10, 20, 30)), ("min", 60.0, (1, 2, 5, 10, 20, 30)),
          ("h", 3600.0, (1, 2, 5, 10)), ("d", 86400.0, (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)))  # fmt: skip


def aligned(chart: Chart) -> tuple[list[Value], list[list[float | None]]]:
    """The places along a chart of bars, and each series' height there; None where it has no finite one."""
    first, *others = chart.series or [Series("", [], [])]
    if all(list(series.x) == list(first.x) for series in others):
        return list(first.x), [[_finite(height) for height in series.y] for series in chart.series]
    places = list(dict.fromkeys(place for series in chart.series for place in series.x))
    by_place = [dict(zip(series.x, series.y, strict=True)) for series in chart.series]
    return places, [[_finite(heights.get(place)) for place in places] for heights in by_place]


def plotly_figure(chart: Chart) -> dict[str, Any]:
    """What plotly draws for `chart`: `data`, the `layout` with its two axes, and the `height` in pixels."""
    if chart.kind in ("lines", "points"):
        return _points(chart)
    places, heights = aligned(chart)
    if len(places) > _MOST_NAMED and not any(isinstance(place, str) for place in places):
        return _upright_bars(chart, places, heights)
    return _named_bars(chart, places, heights)


def _finite(value: float | None) -> float | None:
    return value if value is not None and is_number(value) else None


def _hue(number: int) -> str:
    return f"var(--hue-{number % _NUM_HUES})"


def _cycled(choices: Sequence[str], number: int) -> str:
    """What tells series apart whose hues are the same."""
    return choices[number // _NUM_HUES % len(choices)]


def _points(chart: Chart) -> dict[str, Any]:
    x_size, x_axis = _axis(
        chart.x_label, chart.x_unit, [x for series in chart.series for x in series.x], chart.log_x
    )
    y_size, y_axis = _axis(
        chart.y_label, chart.y_unit, [y for series in chart.series for y in series.y], chart.log_y
    )
    data = []
    for number, series in enumerate(chart.series):
        hue = _hue(number)
        data.append(
            {
                "type": "scatter",
                "mode": _mode(chart, series),
                "name": escape(series.name),
                "x": [_scaled(x, x_size) for x in series.x],
                "y": [_scaled(y, y_size) for y in series.y],
                "customdata": [_hover(chart, series.name, x, y) for x, y in zip(series.x, series.y, strict=True)],
                "hovertemplate": "%{customdata}<extra></extra>",
                "line": {"color": hue, "width": 2, "dash": _cycled(_DASHES, number)},
                "marker": {"color": hue, "size": 7, "symbol": _cycled(_SYMBOLS, number)},
            }
        )
    return _figure(data, x_axis, y_axis, height=380)


def _mode(chart: Chart, series: Series) -> str:
    if chart.kind == "points" or series.points:
        return "markers"
    return "lines" if len(series.x) > _MOST_MARKED else "lines+markers"


def _hover(chart: Chart, name: str, x: Value, y: float | None) -> str:
    lines = [f"{chart.x_label}: {written(x, chart.x_unit)}", f"{chart.y_label}: {written(y, chart.y_unit)}"]
    return "<br>".join(escape(line) for line in [name, *lines] if line)


def _upright_bars(chart: Chart, places: Sequence[Value], heights: Heights) -> dict[str, Any]:
    """Many bars over an axis of numbers, as of a time line."""
    x_size, x_axis = _axis(chart.x_label, chart.x_unit, places, chart.log_x)
    y_size, y_axis = _axis(chart.y_label, chart.y_unit, _tops(chart, heights), chart.log_y)
    data = [
        _bars(chart, number, places, row) | {
            "x": [_scaled(place, x_size) for place in places], "y": [_scaled(height, y_size) for height in row],
        }
        for number, row in enumerate(heights)
    ]  # fmt: skip
    figure = _figure(data, x_axis, y_axis, height=380)
    figure["layout"] |= {"barmode": "stack" if chart.kind == "stack" else "group", "bargap": 0}
    return figure


def _named_bars(chart: Chart, places: Sequence[Value], heights: Heights) -> dict[str, Any]:
    """Lying bars, a line of text for each, and the value at its end: names may be long, windows narrow."""
    stacked = chart.kind == "stack"
    tops = _tops(chart, heights)
    size, value_axis = _axis(chart.y_label, chart.y_unit, tops, chart.log_y)
    if not chart.log_y and (greatest := max(tops, default=0.0)) > 0:
        least = min((height for row in heights for height in row if height is not None), default=0.0)
        value_axis["range"] = [_ROOM * min(least, 0.0) / size, _ROOM * greatest / size]
    rows = list(range(len(places)))
    data = [
        _bars(chart, number, places, row)
        | {"orientation": "h", "x": [_scaled(height, size) for height in row], "y": rows}
        | ({} if stacked else {"text": _ends(row, chart.y_unit), "textposition": "outside", "cliponaxis": False})
        for number, row in enumerate(heights)
    ]
    if stacked:
        data.append(_totals([_scaled(top, size) for top in tops], rows, _ends(tops, chart.y_unit)))
    thickness = 34 if stacked else 14 + 18 * len(heights)
    legend_lines = len(heights) // 2 + 1 if len(heights) > 1 else 0
    height = max(180, 90 + thickness * len(rows) + 22 * legend_lines)
    figure = _figure(data, value_axis, _name_axis(chart, places), height)
    figure["layout"]["barmode"] = "stack" if stacked else "group"
    return figure


def _name_axis(chart: Chart, places: Sequence[Value]) -> dict[str, Any]:
    """Names by number, the first on top: names that are alike keep bars of their own."""
    lines = [textwrap.wrap(written(place, chart.x_unit), _LABEL_WIDTH) for place in places]
    return {
        "title": escape(chart.x_label),
        "tickvals": list(range(len(places))),
        "ticktext": ["<br>".join(map(escape, name)) for name in lines],
        "autorange": "reversed",
        "showgrid": False,
    }


def _totals(tops: Sequence[float | None], rows: Sequence[int], texts: Sequence[str]) -> dict[str, Any]:
    """What is written at the ends of stacked bars."""
    return {
        "type": "scatter",
        "mode": "text",
        "x": tops,
        "y": rows,
        "text": [f" {text}" for text in texts],
        "textposition": "middle right",
        "showlegend": False,
        "hoverinfo": "skip",
        "cliponaxis": False,
    }


def _bars(chart: Chart, number: int, places: Sequence[Value], row: Sequence[float | None]) -> dict[str, Any]:
    name = chart.series[number].name
    return {
        "type": "bar",
        "name": escape(name),
        "customdata": [_hover(chart, name, place, height) for place, height in zip(places, row, strict=True)],
        "hovertemplate": "%{customdata}<extra></extra>",
        "marker": {"color": _hue(number), "pattern": {"shape": _cycled(_PATTERNS, number)}},
    }


def _tops(chart: Chart, heights: Heights) -> list[float]:
    """How far the bars at each place reach: their sum, or the greatest of them."""
    over = sum if chart.kind == "stack" else max
    return [over([height or 0.0 for height in column]) for column in zip(*heights, strict=True)]


def _ends(values: Sequence[float | None], unit: Unit) -> list[str]:
    return [escape(written(value, unit)) if value else "" for value in values]


def _axis(label: str, unit: Unit, values: Sequence[Value], log: bool) -> tuple[float, dict[str, Any]]:
    """What values on an axis are divided by, and the axis."""
    numbers = [float(value) for value in values if isinstance(value, int | float) and is_number(value)]
    size, said = 1.0, _IN_TITLE.get(unit, "")
    axis = dict(_TICKS.get(unit, {}))
    if unit == "seconds" and log:
        axis |= _time_ticks([number for number in numbers if number > 0])
    elif unit == "seconds":
        size, said = clock(max(map(abs, numbers), default=0.0))
    elif unit == "flops" and not log and max(numbers, default=0.0) < _WRITTEN_AS_POWERS:
        said, axis = "", {"tickformat": "~s", "ticksuffix": "FLOP"}
    elif log:
        axis |= _decades([number for number in numbers if number > 0])
    title = f"{label} ({said})" if said and f" {said} " not in f" {label} " else label
    return size, axis | {"title": escape(title)} | ({"type": "log"} if log else {})


def _decades(numbers: Sequence[float]) -> dict[str, Any]:
    """Ticks at powers of ten, and at 2 and 5 between them where they are few."""
    decades = math.log10(max(numbers) / min(numbers)) if numbers else 0.0
    return {"dtick": math.ceil(decades / _MOST_TICKS) if decades >= 2 else "D2"}


def _time_ticks(seconds: Sequence[float]) -> dict[str, Any]:
    """Round times between the least and the greatest, at most six."""
    if not seconds:
        return {}
    low, high = min(seconds) / 1.5, max(seconds) * 1.5
    round_times = [(count * size, f"{count:g} {name}") for name, size, counts in _TIMES for count in counts]
    ticks = [(time, text) for time, text in round_times if low <= time <= high]
    every = math.ceil(len(ticks) / _MOST_TICKS) or 1
    return {"tickvals": [time for time, _ in ticks[::every]], "ticktext": [text for _, text in ticks[::every]]}


def _scaled(value: Value, size: float) -> float | None:
    return value / size if isinstance(value, int | float) and is_number(value) else None


def _figure(
    data: list[dict[str, Any]], x_axis: dict[str, Any], y_axis: dict[str, Any], height: int
) -> dict[str, Any]:
    named = [trace for trace in data if trace.get("showlegend", True)]
    layout = {"xaxis": x_axis, "yaxis": y_axis, "showlegend": len(named) > 1}
    return {"data": data, "layout": layout, "height": height}
