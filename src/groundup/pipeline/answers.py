"""A planner's answer in the terminal, as JSON and as a file: what every verb of the planner shows and writes."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table as Grid
from rich.text import Text

from groundup.errors import UserError, nearest
from groundup.files import write_atomically
from groundup.pipeline.answer_bars import bar_lines
from groundup.pipeline.display import Display
from groundup.plan.figures import Answer, Figure, Table
from groundup.studio.values import cell, exact, heading, is_number, result

_ALL = "all"
_GAP = 2
# A cell of text may be broken into lines, but none narrower than this.
_LEAST_TEXT = 12


def plain(answer: Answer) -> dict[str, Any]:
    """The answer for JSON, with null for what is no finite number."""
    whole: dict[str, Any] = _finite({"title": answer.title} | answer.as_json())
    return whole


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_page(answer: Answer, file: Path) -> None:
    """Write the answer as one HTML page; folders that are not there are made.

    Raises:
        UserError: `file` is a folder.
    """
    from groundup.studio.answers import render_answer

    if file.is_dir():
        raise UserError(f"--html {file} is a folder; give a file in it, as {file / 'plan.html'}")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, render_answer(answer).encode("utf-8", "backslashreplace"))


def explained(answer: Answer, names: Sequence[str]) -> list[Figure]:
    """The figures of that name, in the order of `names`; all of them for `all`.

    Raises:
        UserError: the answer has no figure of a name.
    """
    if _ALL in names:
        return list(answer.figures)
    by_name = {figure.name: figure for figure in answer.figures}
    for name in names:
        if name not in by_name:
            raise UserError(f"--explain {name}: the answer has no figure of that name{nearest(name, by_name)}")
    return [by_name[name] for name in names]


def show_explanations(figures: Sequence[Figure], display: Display) -> None:
    """For each figure its formula, the values that were put in, the result, and the source."""
    for figure in figures:
        display.say(f"\n{figure.name}: {figure.label}", style="bold")
        if figure.formula:
            display.say(f"  {figure.name} = {figure.formula}")
        longest = max((len(symbol) for symbol in figure.values), default=0)
        for symbol, value in figure.values.items():
            display.say(f"    {symbol:<{longest}} = {exact(value)}")
        in_full = f", in full {exact(figure.value)}" if is_number(figure.value) and figure.unit else ""
        display.say(f"  = {result(figure)}{in_full}")
        display.say(f"  source: {figure.source or ('this formula' if figure.formula else 'chosen or given')}", "dim")


def show_answer(answer: Answer, display: Display) -> None:
    """Figures, tables, bars and notes; charts of lines and points are only named, since a page shows them better."""
    display.say(answer.title, style="bold")
    display.console.print(_figures(answer.figures))
    for table in answer.tables:
        _show_table(table, display)
    pages = []
    for chart in answer.charts:
        if chart.kind in ("stack", "bars"):
            display.say(f"\n{chart.title}", style="bold")
            for line in bar_lines(chart, display.console.width):
                display.console.print(line, no_wrap=True, overflow="crop")
        else:
            pages.append(chart.title)
    if answer.notes:
        display.say("")
    for note in answer.notes:
        display.console.print(_hanging("•", Text(note)))
    display.say("")
    if pages:
        display.console.print(Text(f"--html FILE also draws: {'; '.join(pages)}", style="dim"))
    if any(figure.formula for figure in answer.figures):
        display.console.print(Text("--explain NAME (or all) shows where a figure comes from", style="dim"))


def _hanging(mark: str, text: Text) -> Grid:
    """A paragraph whose lines stand to the right of its mark."""
    grid = _grid()
    grid.add_row(mark, text)
    return grid


def _grid() -> Grid:
    return Grid(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, show_header=False)


def _figures(figures: Sequence[Figure]) -> Grid:
    """Labels, values with intervals, and the names that `--explain` takes where there is something to explain."""
    grid = _grid()
    grid.add_column(overflow="fold")
    grid.add_column(overflow="fold")
    grid.add_column(overflow="fold", style="dim")
    for figure in figures:
        name = figure.name if figure.formula else ""
        grid.add_row(Text(figure.label), Text(result(figure)), Text(name))
    return grid


def _show_table(table: Table, display: Display) -> None:
    """One grid, or where the window is too narrow several below each other, whose rows are numbered."""
    display.say(f"\n{table.title}", style="bold")
    if not table.rows:
        display.say("none", style="dim")
        return
    headings = [heading(column) for column in table.columns]
    cells = [[cell(value, column.unit) for value, column in zip(row, table.columns, strict=True)]
             for row in table.rows]  # fmt: skip
    textual = [any(isinstance(row[place], str) for row in table.rows) for place in range(len(headings))]
    blocks = list(_blocks([_least_width(place, headings, cells, textual) for place in range(len(headings))],
                          display.console.width, len(str(len(cells)))))  # fmt: skip
    for number, block in enumerate(blocks):
        if number:
            display.say("")
        grid = Grid(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim")
        if len(blocks) > 1:
            grid.add_column("#", justify="right", style="dim")
        for place in block:
            if textual[place]:
                grid.add_column(Text(headings[place]), overflow="fold")
            else:
                grid.add_column(Text(headings[place], justify="right"), justify="right", no_wrap=True)
        for row_number, row in enumerate(cells, start=1):
            numbered = [str(row_number)] if len(blocks) > 1 else []
            grid.add_row(*numbered, *(Text(row[place]) for place in block))
        display.console.print(grid)


def _least_width(place: int, headings: Sequence[str], cells: Sequence[Sequence[str]], textual: Sequence[bool]) -> int:
    """Columns of the terminal that one column of a table cannot do without; headings are broken between words."""
    words = max(map(len, headings[place].split()), default=0)
    widest = max(len(row[place]) for row in cells)
    return max(words, min(widest, _LEAST_TEXT) if textual[place] else widest)


def _blocks(widths: Sequence[int], available: int, number_width: int) -> Iterator[list[int]]:
    """The places of columns that fit beside each other; with the width of row numbers, if they do not fit at once."""
    if sum(widths) + _GAP * (len(widths) - 1) <= available:
        yield list(range(len(widths)))
        return
    block: list[int] = []
    used = number_width
    for place, width in enumerate(widths):
        if block and used + _GAP + width > available:
            yield block
            block, used = [], number_width
        block.append(place)
        used += _GAP + width
    yield block
