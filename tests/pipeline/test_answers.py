import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from groundup.errors import UserError
from groundup.pipeline.answer_bars import bar_lines
from groundup.pipeline.answers import explained, plain, show_answer, show_explanations, write_page
from groundup.pipeline.display import Display
from groundup.plan.figures import Answer, Chart, Figure, Series, Table
from groundup.studio.values import cell
from tests.studio import fake_answer

FILLS = "█▓▒░▚╳┼"


def on_screen(show: Callable[[Display], None], width: int = 80) -> str:
    output = io.StringIO()
    show(Display(Console(file=output, width=width)))
    return output.getvalue()


def chart(kind: str, heights: list[list[float]]) -> Chart:
    names = [f"name {place}" for place in range(len(heights[0]))]
    series = [Series(f"part {number}", names, row) for number, row in enumerate(heights)]
    return Chart("chart", "title", kind, "", "bytes", "", "bytes", series)  # type: ignore[arg-type]


def bars_of(drawn: Chart, width: int = 80) -> list[str]:
    """The fills of each line that has a label or a value, without the legend."""
    lines = [line.plain for line in bar_lines(drawn, width)]
    assert all(len(line) <= width for line in lines)
    return ["".join(character for character in line if character in FILLS) for line in lines]


@given(st.lists(st.floats() | st.integers() | st.none() | st.text(), min_size=1))
def test_json_has_null_exactly_for_what_is_not_finite(values: list[float | int | str | None]) -> None:
    figures = [Figure(f"figure_{place}", "label", value) for place, value in enumerate(values)]
    table = Table("table", "title", [fake_answer.Column("x", "x")], [[value] for value in values])
    made = plain(Answer("title", figures, [table]))
    assert next(iter(made)) == "title"
    read = json.loads(json.dumps(made, allow_nan=False))
    expected = [None if isinstance(value, float) and not math.isfinite(value) else value for value in values]
    assert [read[f"figure_{place}"] for place in range(len(values))] == expected
    assert [row["x"] for row in read["table"]] == expected


def test_json_of_all_kinds() -> None:
    made = plain(fake_answer.answer())
    assert made["unknown"] is None
    assert (made["usd"], made["usd_low"], made["usd_high"]) == (71_111.0, 56_900.0, 142_000.0)
    assert made["layouts"][1]["mfu"] == 0.4521
    assert made["notes"][1] == "next best: 5.1B parameters"


def test_explanations_are_asked_for_by_name() -> None:
    answer = fake_answer.answer()
    assert [figure.name for figure in explained(answer, ["usd", "flops"])] == ["usd", "flops"]
    assert explained(answer, ["flops", "all"]) == list(answer.figures)
    assert explained(answer, []) == []
    with pytest.raises(UserError, match=r"--explain bits_per_bite: .* did you mean 'bits_per_byte'\?"):
        explained(answer, ["usd", "bits_per_bite"])


def test_an_explanation_has_formula_values_result_and_source() -> None:
    answer = fake_answer.answer()
    shown = on_screen(
        lambda display: show_explanations(explained(answer, ["bits_per_byte", "parameters"]), display)
    )
    for text in (
        "bits_per_byte = E + A / N^a + B / D^b", "A   = 482.01", "N   = 7.24e9", "source: Besiroglu et al. 2024",
        "0.831 bits per byte (0.790 to 0.880)", "parameters = L (4 d^2 + 3 d f) + 2 V d", "f = 14,336",
        "in full 7,241,732,096",
    ):  # fmt: skip
        assert text in shown


@pytest.mark.parametrize("width", [160, 80, 60, 40])
def test_all_that_an_answer_says_is_on_the_screen_and_nothing_is_cut_off(width: int) -> None:
    answer = fake_answer.answer()
    shown = on_screen(lambda display: show_answer(answer, display), width)
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown
    for row in fake_answer.layouts().rows:
        for value, column in zip(row, fake_answer.layouts().columns, strict=True):
            if not isinstance(value, str):
                assert cell(value, column.unit) in shown
    for figure in answer.figures:
        if figure.low is not None:
            assert f"({cell(figure.low, figure.unit)}" in shown
    words = set(shown.replace(";", " ").split())
    for text in (*(figure.label for figure in answer.figures), *answer.notes, *fake_answer.STAGES):
        assert words.issuperset(text.split())
    assert words.issuperset(fake_answer.lines().title.split())  # is not drawn here, but named


def tables_on_screen(table: Table, width: int) -> list[list[str]]:
    """The words of each line."""
    shown = on_screen(lambda display: show_answer(Answer("title", [], [table]), display), width)
    return [line.split() for line in shown.splitlines()]


def test_rows_of_a_table_in_blocks_keep_their_names() -> None:
    wide, narrow = (tables_on_screen(fake_answer.layouts(12), width) for width in (250, 60))
    for lines in (wide, narrow):
        assert sum("$2,150/h" in line for line in lines) == 12
    assert sum(line[:1] == ["layout"] for line in wide) == 1
    blocks = sum(line[:1] == ["layout"] for line in narrow)
    assert sum(line[:1] == ["ZeRO-1,"] for line in narrow) == 12 * blocks > 12


def test_rows_of_a_table_in_blocks_are_numbered_where_they_have_no_names() -> None:
    table = fake_answer.layouts(12)
    table = replace(table, columns=table.columns[1:], rows=[row[1:] for row in table.rows])
    narrow = tables_on_screen(table, 60)
    blocks = sum(line[:1] == ["#"] for line in narrow)
    assert sum(line[:1] == ["12"] for line in narrow) == blocks > 1
    assert not any("#" in line for line in tables_on_screen(table, 250))


@settings(max_examples=50)
@given(
    st.integers(1, 6).flatmap(
        lambda places: st.lists(
            st.lists(st.floats(0, 1e15), min_size=places, max_size=places), min_size=1, max_size=7
        )
    ),
    st.integers(40, 200),
)
def test_stacked_bars_are_as_long_as_their_sums(heights: list[list[float]], width: int) -> None:
    totals = [sum(column) for column in zip(*heights, strict=True)]
    lengths = [len(bar) for bar in bars_of(chart("stack", heights), width)[: len(totals)]]
    if max(totals) == 0:
        assert not any(lengths)
        return
    assert max(lengths) >= 8
    for length, total in zip(lengths, totals, strict=True):
        assert abs(length - total / max(totals) * max(lengths)) <= 1


def test_pieces_of_a_stack_are_told_apart_without_colours() -> None:
    first, second, legend = bars_of(chart("stack", [[1e9, 3e9], [1e9, 1e9], [2e9, 0]]))
    assert first == "".join(sorted(first, key=FILLS.index))
    assert [first.count(fill) / len(first) for fill in "█▓▒"] == pytest.approx(
        [0.25, 0.25, 0.5], abs=1 / len(first)
    )
    assert set(second) == {"█", "▓"}
    assert legend == "██▓▓▒▒"


def test_the_legend_of_a_single_bar_has_the_values() -> None:
    *_, legend = bar_lines(chart("stack", [[1e9], [2.5e9]]), 80)
    assert legend.plain.replace("\N{NO-BREAK SPACE}", " ") == "██ part 0 1.00 GB   ▓▓ part 1 2.50 GB"


def test_bars_beside_each_other_have_a_line_each_with_its_value() -> None:
    wide = [line.plain for line in bar_lines(fake_answer.bars(), 120)]
    assert len(wide) == 3 * 2 + 1
    assert wide[0].startswith("data 64, tensor 8, pipeline 1, ZeRO-1  █")
    assert wide[0].endswith("1.25\N{NO-BREAK SPACE}s")
    assert wide[3].endswith("  –")
    assert not set(FILLS) & set(wide[3])
    # Where there is no room beside the bars, names stand above them.
    narrow = [line.plain for line in bar_lines(fake_answer.bars(), 80)]
    assert narrow[0] == "data 64, tensor 8, pipeline 1, ZeRO-1"
    assert [line.strip() for line in narrow[1:3]] == [line.removeprefix(narrow[0]).strip() for line in wide[:2]]


def test_many_bars_are_cut_and_counted() -> None:
    lines = [line.plain for line in bar_lines(chart("stack", [[1e9] * 64]), 80)]
    assert len(lines) == 25
    assert lines[-1].startswith("and 40 more")


def test_of_many_moments_some_are_shown_up_to_the_end() -> None:
    *lines, rest, _ = [line.plain for line in bar_lines(fake_answer.timeline(), 80)]
    assert [line.split()[0] for line in lines] == [str(moment) for moment in range(0, 600, 30)]
    assert rest.startswith("every 3. is shown")


def test_text_is_no_markup() -> None:
    hostile = "[red]not red[/red] [/] [link=x]"
    shown = on_screen(lambda display: show_answer(fake_answer.answer(hostile), display), 250)
    assert shown.count(hostile) >= 3


def test_a_page_makes_its_folder_and_replaces_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "new" / "deeper" / "plan.html"
    write_page(Answer("first", []), file)
    write_page(Answer("second", []), file)
    assert "<h1>second</h1>" in file.read_text("utf-8")
    assert list(file.parent.iterdir()) == [file]


def test_a_folder_is_not_overwritten_by_a_page(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        write_page(Answer("title", []), tmp_path)
    assert list(tmp_path.iterdir()) == []
