"""A planner's answer in the terminal, as JSON and as a file: what every verb of the planner shows and writes."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table as Grid
from rich.text import Text

from groundup.errors import UserError, nearest
from groundup.files import write_atomically
from groundup.pipeline.answer_bars import bar_lines
from groundup.pipeline.display import Display
from groundup.plan.figures import Answer, Column, Figure, Table, Value
from groundup.studio.values import cell, exact, heading, is_number, result

_ALL = "all"
_GAP = 2
# A cell of text may be broken between words, into lines no narrower than this; only longer words are broken.
_LEAST_TEXT = 12
_LONGEST_WORD = 24


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
        display.say(
            f"  source: {figure.source or ('this formula' if figure.formula else 'chosen or given')}", "dim"
        )


def show_answer(answer: Answer, display: Display) -> None:
    """Figures, tables, bars and notes; charts of lines and points are only named, since a page shows them."""
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
    """One grid, or where the window is too narrow several below each other, all with names of the rows."""
    display.say(f"\n{table.title}", style="bold")
    if not table.rows:
        display.say("none", style="dim")
        return
    columns = [_as_text(column, [row[place] for row in table.rows]) for place, column in enumerate(table.columns)]
    for number, block in enumerate(_blocks(columns, display.console.width)):
        if number:
            display.say("")
        display.console.print(_block(block, display.console.width))


@dataclass(frozen=True)
class _Column:
    """A column of a table as text; words are broken into lines, numbers stand below one another."""

    heading: str
    cells: Sequence[str]
    textual: bool

    @property
    def least_width(self) -> int:
        """How narrow it can be."""
        widest = max(map(len, self.cells))
        if not self.textual:
            return max(_longest_word(self.heading), widest)
        word = max(map(_longest_word, [self.heading, *self.cells]))
        return max(min(widest, _LEAST_TEXT), min(word, _LONGEST_WORD))

    @property
    def full_width(self) -> int:
        """How wide it is where there is room."""
        return max(map(len, [self.heading, *self.cells]))


def _longest_word(text: str) -> int:
    return max(map(len, text.split()), default=0)


def _as_text(column: Column, values: Sequence[Value]) -> _Column:
    textual = any(isinstance(value, str) for value in values)
    return _Column(heading(column), [cell(value, column.unit) for value in values], textual)


def _blocks(columns: Sequence[_Column], available: int) -> Iterator[Sequence[_Column]]:
    """Columns that fit beside each other; if they do not all fit at once, each time with what names the rows."""
    if _width(columns) <= available:
        yield columns
        return
    named = columns[0].textual
    names = columns[0] if named else _Column("#", [str(row + 1) for row in range(len(columns[0].cells))], False)
    block = [names]
    for column in columns[named:]:
        if len(block) > 1 and _width([*block, column]) > available:
            yield block
            block = [names]
        block.append(column)
    yield block


def _width(columns: Sequence[_Column]) -> int:
    return sum(column.least_width + _GAP for column in columns) - _GAP


def _block(columns: Sequence[_Column], available: int) -> Grid:
    """A grid, in which texts are given the room that is left before headings are."""
    grid = Grid(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim")
    widths = [column.least_width for column in columns]
    left = max(available - _width(columns), 0)
    for place in sorted(range(len(columns)), key=lambda place: not columns[place].textual):
        more = min(columns[place].full_width - widths[place], left)
        widths[place] += more
        left -= more
    for column, width in zip(columns, widths, strict=True):
        side: Literal["left", "right"] = "left" if column.textual else "right"
        grid.add_column(Text(column.heading), justify=side, overflow="fold", width=width)
    for row in zip(*(column.cells for column in columns), strict=True):
        grid.add_row(*map(Text, row))
    return grid
