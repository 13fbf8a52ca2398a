"""The page that shows a planner's answer: figures that unfold to their formulas, tables, charts and notes."""

from collections.abc import Sequence
from typing import Any

from groundup.plan.figures import Answer, Figure, Table, Value
from groundup.studio.answer_charts import plotly_figure
from groundup.studio.page import asset, plotly, render_page
from groundup.studio.values import cell, exact, heading, is_number, result

_STYLES = ["report.css", "answer.css"]
# Characters; longer texts are broken into lines.
_LONGEST_WORD = 16


def render_answer(answer: Answer) -> str:
    """One self-contained HTML page."""
    scripts = [plotly(), asset("plotting.js"), asset("answer.js")] if answer.charts else []
    return render_page("answer.html.j2", _STYLES, scripts, answer_facts(answer))


def answer_facts(answer: Answer) -> dict[str, Any]:
    """What the page shows, as plain data."""
    drawn = [plotly_figure(chart) for chart in answer.charts]
    return {
        "title": answer.title,
        "figures": [_figure(figure) for figure in answer.figures],
        "tables": [_table(table) for table in answer.tables],
        "charts": [
            {"title": chart.title, "caption": _caption(chart.y_label, chart.x_label), "height": figure["height"]}
            for chart, figure in zip(answer.charts, drawn, strict=True)
        ],
        "notes": list(answer.notes),
        "drawn": drawn,
    }


def _figure(figure: Figure) -> dict[str, Any]:
    number = is_number(figure.value)
    return {
        "name": figure.name,
        "label": figure.label,
        "text": result(figure),
        "number": figure.value if number else None,
        "exact": exact(figure.value) if number else None,
        "formula": figure.formula,
        "values": [(symbol, exact(value)) for symbol, value in figure.values.items()],
        "source": figure.source,
    }


def _table(table: Table) -> dict[str, Any]:
    kinds = [_kind([row[place] for row in table.rows]) for place in range(len(table.columns))]
    return {
        "name": table.name,
        "title": table.title,
        "columns": [
            {"label": heading(column), "kind": kind} for column, kind in zip(table.columns, kinds, strict=True)
        ],
        "rows": [
            [
                {"text": cell(value, column.unit), "number": value if is_number(value) else None, "kind": kind}
                for value, column, kind in zip(row, table.columns, kinds, strict=True)
            ]
            for row in table.rows
        ],
    }


def _kind(values: Sequence[Value]) -> str:
    """The style of a column: `n` for numbers, `word` for short and `text` for long texts."""
    longest = max((len(value) for value in values if isinstance(value, str)), default=0)
    return "text" if longest > _LONGEST_WORD else "word" if longest else "n"


def _caption(y_label: str, x_label: str) -> str:
    return f"{y_label}, by {x_label}" if x_label else y_label
