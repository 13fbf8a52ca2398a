"""Charts of bars in the terminal: blocks of a character each, in colours where there are any."""

from collections.abc import Iterator, Sequence

from rich.text import Text

from groundup.plan.figures import Chart
from groundup.studio.answer_charts import aligned
from groundup.studio.values import is_number, written

# Each series has a character of its own beside its colour, so that plain text and all eyes tell them apart.
_FILLS = "█▓▒░▚╳┼"
_COLOURS = ("blue", "yellow", "green", "magenta", "cyan", "red", "white")
_LONGEST_BAR = 50
_MOST_NAMES = 24


def bar_lines(chart: Chart, width: int) -> Iterator[Text]:
    """The lines of a chart of kind `stack` or `bars`, at most `width` columns wide."""
    names, heights = aligned(chart)
    labels = [written(name, chart.x_unit) for name in names]
    shown = range(min(len(names), _MOST_NAMES))
    stacked = chart.kind == "stack"
    totals = [_sum(row[place] for row in heights) for place in range(len(names))]
    greatest = max(totals if stacked else [height or 0.0 for row in heights for height in row], default=0.0)
    texts = [written(total, chart.y_unit) for total in totals] if stacked else [
        written(height, chart.y_unit) for row in heights for height in row]  # fmt: skip
    label_width = min(max(map(len, labels), default=0), width // 3)
    room = width - label_width - max(map(len, texts), default=0) - 4
    scale = max(min(room, _LONGEST_BAR), 1) / greatest if greatest > 0 else 0.0
    for place in shown:
        label = Text(labels[place])
        label.truncate(label_width, overflow="ellipsis", pad=True)
        if stacked:
            bar = _stacked([row[place] for row in heights], scale)
            yield Text.assemble(label, "  ", bar, "  ", written(totals[place], chart.y_unit))
            continue
        for number, row in enumerate(heights):
            head = label if not number else " " * label_width
            bar = _piece(number, round(max(row[place] or 0.0, 0.0) * scale))
            yield Text.assemble(head, "  ", bar, "  ", written(row[place], chart.y_unit))
    if len(names) > _MOST_NAMES:
        yield Text(f"and {len(names) - _MOST_NAMES} more: see the page (--html FILE)", style="dim")
    yield from _legend(chart, heights, single=stacked and len(names) == 1, width=width)


def _stacked(heights: Sequence[float | None], scale: float) -> Text:
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


def _sum(heights: Iterator[float | None]) -> float:
    return sum(height for height in heights if is_number(height) and height is not None and height > 0)
