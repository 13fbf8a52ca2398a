"""Charts of bars in the terminal: blocks of a character each, in colours where there are any."""

import math
import textwrap
from collections.abc import Iterator, Sequence

from rich.text import Text

from groundup.plan.figures import Chart, Value
from groundup.studio.answer_charts import aligned
from groundup.studio.values import written

# Each series has a character of its own beside its colour, so that plain text and all eyes tell them apart.
_FILLS = "█▓▒░▚╳┼"
_COLOURS = ("blue", "yellow", "green", "magenta", "cyan", "red", "white")
_LONGEST_BAR = 50
_MOST_NAMES = 24


def bar_lines(chart: Chart, width: int) -> Iterator[Text]:
    """The lines of a chart of kind `stack` or `bars`, at most `width` columns wide."""
    names, heights = aligned(chart)
    labels = [written(name, chart.x_unit) for name in names]
    every, shown = _shown(names)
    stacked = chart.kind == "stack"
    rows = {place: _rows(chart, [row[place] for row in heights]) for place in shown}
    ends = {place: [written(_sum(row), chart.y_unit) for row in rows[place]] for place in shown}
    greatest = max((_sum(row) or 0.0 for place in shown for row in rows[place]), default=0.0)
    label_width = max((len(labels[place]) for place in shown), default=0)
    above = label_width > width // 3  # then labels have lines of their own
    indent = 2 if above else label_width + 2
    room = width - indent - 2 - max((len(end) for place in shown for end in ends[place]), default=0)
    scale = max(min(room, _LONGEST_BAR), 1) / greatest if greatest > 0 else 0.0
    for place in shown:
        if above:
            yield from (Text(line) for line in textwrap.wrap(labels[place], width))
        for number, (row, end) in enumerate(zip(rows[place], ends[place], strict=True)):
            head = "" if above or number else labels[place]
            yield Text.assemble(head.ljust(indent), _bar(row, scale), "  ", end)
    if len(shown) < len(names):
        rest = f"every {every}. is shown" if every > 1 else f"and {len(names) - len(shown)} more"
        yield Text(f"{rest}: --html FILE draws all", style="dim")
    yield from _legend(chart, heights, single=stacked and len(names) == 1, width=width)


def _shown(names: Sequence[Value]) -> tuple[int, range]:
    """Which of too many bars are shown: the first ones or, along an axis of numbers, one out of so many."""
    every = 1 if any(isinstance(name, str) for name in names) else math.ceil(len(names) / _MOST_NAMES) or 1
    return every, range(0, min(len(names), _MOST_NAMES * every), every)


def _rows(chart: Chart, heights: Sequence[float | None]) -> list[list[float | None]]:
    """The bars at one place, each with the heights of all series' pieces in it."""
    if chart.kind == "stack":
        return [list(heights)]
    return [[None] * number + [height] for number, height in enumerate(heights)]


def _bar(heights: Sequence[float | None], scale: float) -> Text:
    """Pieces whose ends are rounded, so that the length of the whole is right."""
    bar, end, total = Text(), 0, 0.0
    for number, height in enumerate(heights):
        total += max(height or 0.0, 0.0)
        begin, end = end, round(total * scale)
        bar.append_text(_piece(number, end - begin))
    return bar


def _piece(number: int, length: int) -> Text:
    return Text(_FILLS[number % len(_FILLS)] * length, style=_COLOURS[number % len(_COLOURS)])


def _legend(chart: Chart, heights: Sequence[Sequence[float | None]], single: bool, width: int) -> Iterator[Text]:
    """What each colour means, on as few lines as they fit on; under a single bar with the values."""
    if len(chart.series) < 2 and not single:
        return
    line = Text()
    for number, (series, row) in enumerate(zip(chart.series, heights, strict=True)):
        value = f" {written(row[0], chart.y_unit)}" if single else ""
        entry = Text.assemble(_piece(number, 2), f" {series.name}{value}")
        if line and len(line) + 3 + len(entry) > width:
            yield line
            line = Text()
        line = Text.assemble(line, "   ", entry) if line else entry
    yield line


def _sum(pieces: Sequence[float | None]) -> float | None:
    """The length of a bar; None where nothing is known of it."""
    known = [piece for piece in pieces if piece is not None]
    return sum(known) if known else None
