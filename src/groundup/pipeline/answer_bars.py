"""Charts of bars in the terminal: blocks of a character each, in colours where there are any."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from rich.text import Text

from groundup.plan.figures import Chart, Unit, Value
from groundup.studio.answer_charts import aligned
from groundup.studio.values import written

# The heights of the pieces of a bar, one for each series.
_Bar: TypeAlias = Sequence[float | None]

# Each series has a character of its own beside its colour, so that plain text and all eyes tell them apart.
_FILLS = "█▓▒░▚╳┼"
_COLOURS = ("blue", "yellow", "green", "magenta", "cyan", "red", "white")
_LONGEST_BAR = 50
_MOST_NAMES = 24


def bar_lines(chart: Chart, width: int) -> Iterator[Text]:
    """The lines of a chart of kind `stack` or `bars`, at most `width` columns wide."""
    names, heights = aligned(chart)
    every, shown = _shown(names)
    groups = [
        (written(names[place], chart.x_unit), _bars(chart, [row[place] for row in heights])) for place in shown
    ]
    yield from _drawn(groups, chart.y_unit, width)
    if len(shown) < len(names):
        rest = f"every {every}. is shown" if every > 1 else f"and {len(names) - len(shown)} more"
        yield Text(f"{rest}: --html FILE draws all", style="dim")
    yield from _legend(chart, heights, single=chart.kind == "stack" and len(names) == 1, width=width)


def _drawn(groups: Sequence[tuple[str, Sequence[_Bar]]], unit: Unit, width: int) -> Iterator[Text]:
    """A line for each bar, with the label of its group and the sum of its pieces."""
    bars = [bar for _, group in groups for bar in group]
    greatest = max((_sum(bar) or 0.0 for bar in bars), default=0.0)
    label_width = max((len(label) for label, _ in groups), default=0)
    above = label_width > width // 3  # then labels have lines of their own
    indent = 2 if above else label_width + 2
    room = width - indent - 2 - max((len(written(_sum(bar), unit)) for bar in bars), default=0)
    longest = max(min(room, _LONGEST_BAR), 1)
    for label, group in groups:
        if above:
            yield from map(Text, textwrap.wrap(label, width))
        for number, bar in enumerate(group):
            head = "" if above or number else label
            pieces = _pieces(bar, greatest, longest)
            yield Text.assemble(head.ljust(indent), pieces, "  ", written(_sum(bar), unit))


def _shown(names: Sequence[Value]) -> tuple[int, range]:
    """Which of too many bars are shown: the first ones or, along an axis of numbers, one out of so many."""
    every = 1 if any(isinstance(name, str) for name in names) else math.ceil(len(names) / _MOST_NAMES) or 1
    return every, range(0, min(len(names), _MOST_NAMES * every), every)


def _bars(chart: Chart, heights: Sequence[float | None]) -> list[_Bar]:
    """The bars at one place: one of all series, or one for each."""
    if chart.kind == "stack":
        return [heights]
    return [[*[None] * number, height] for number, height in enumerate(heights)]


def _pieces(bar: _Bar, greatest: float, longest: int) -> Text:
    """A bar whose pieces' ends are rounded, so that the length of the whole is right: `longest` for `greatest`."""
    drawn, end, total = Text(), 0, 0.0
    for number, height in enumerate(bar):
        total += max(height or 0.0, 0.0)
        begin, end = end, round(total / greatest * longest) if greatest > 0 else 0
        drawn.append_text(_piece(number, end - begin))
    return drawn


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


def _sum(bar: _Bar) -> float | None:
    """How much it stands for; None where nothing is known of it."""
    known = [height for height in bar if height is not None]
    return sum(known) if known else None
