import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from groundup.plan.figures import Answer, Chart, Series
from groundup.studio.answer_charts import aligned, plotly_figure
from groundup.studio.answers import render_answer
from groundup.studio.values import written

from . import fake_answer
from .conftest import OpenReport
from .test_report import CHARTS_FIT, HOSTILE, LEAST_CONTRAST

DRAWN = """place => document.getElementById(`chart-${place}`).data.map(
  trace => ({ name: trace.name, x: [...trace.x], y: [...trace.y], hover: trace.customdata }))"""


@pytest.fixture(scope="module")
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenReport]:
    """The page of an answer with everything; opened once, since drawing takes its time."""
    file = tmp_path_factory.mktemp("answer") / "answer.html"
    file.write_text(render_answer(fake_answer.answer()), "utf-8")
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield OpenReport(context.new_page(), file)


def opened(answer: Answer, folder: Path, open_report: Callable[[Path], OpenReport]) -> OpenReport:
    file = folder / "answer.html"
    file.write_text(render_answer(answer), "utf-8")
    return open_report(file)


def numbers(page: Any, selector: str) -> list[float]:
    return [float(value) for value in page.eval_on_selector_all(selector, "all => all.map(data => data.value)")]


def finite(values: Any) -> list[Any]:
    return [value if math.isfinite(value) else None for value in values]


def test_figures_unfold_to_where_they_come_from(page: OpenReport) -> None:
    answer = fake_answer.answer()
    shown = page.page.locator("[data-figure]")
    assert shown.evaluate_all("all => all.map(row => row.dataset.figure)") == [row.name for row in answer.figures]
    for figure in answer.figures:
        row = page.page.locator(f"[data-figure={figure.name}]")
        assert row.locator(".quantity").inner_text().rstrip(" ▸") == figure.label
        assert row.locator("summary").count() == bool(figure.formula or figure.source)
        if not figure.formula:
            continue
        formula = row.locator(".formula")
        assert not formula.is_visible()
        row.locator("summary").click()
        assert formula.inner_text() == f"{figure.name} = {figure.formula}"
        assert row.locator("dt").all_inner_texts() == list(figure.values)
        assert formula.is_visible()
        assert (figure.source in row.inner_text()) and ("Source" in row.inner_text()) == bool(figure.source)
    assert numbers(page.page, "[data-figure=parameters] summary data") == [7_241_732_096]
    assert page.page.locator("[data-figure=parameters] .result").inner_text() == "= 7,241,732,096"
    assert page.page.locator("[data-figure=parameters] dd").all_inner_texts() == [
        "32",
        "4,096",
        "14,336",
        "32,000",
    ]
    loss = page.page.locator("[data-figure=bits_per_byte] .value").inner_text()
    assert loss == "0.831 bits per byte (0.790 to 0.880)"
    assert page.page.locator("[data-figure=unknown] .value").inner_text() == "–"


def test_tables_show_every_value(page: OpenReport) -> None:
    table = fake_answer.layouts()
    expected = [value for row in table.rows for value in row if isinstance(value, int | float)]
    assert numbers(page.page, "[data-table=layouts] tbody data") == expected
    headings = page.page.locator("[data-table=layouts] thead th").all_inner_texts()
    assert headings[7] == "throughput (tokens/s)"
    assert page.page.locator("[data-table=layouts] tbody tr").first.locator("td").last.inner_text() == "–"
    assert page.page.locator("#tables .empty").inner_text() == "none"


def test_charts_of_bars_draw_every_value_at_its_name(page: OpenReport) -> None:
    for place in (0, 1):
        chart = fake_answer.answer().charts[place]
        drawn = page.page.evaluate(DRAWN, place)
        for series, trace in zip(chart.series, drawn, strict=False):
            assert trace["name"] == series.name
            assert trace["x"] == finite(series.y)
            assert trace["y"] == list(range(len(series.x)))
            assert trace["hover"][0].startswith(series.name)
        labels = page.page.locator(f"#chart-{place} .ytick").all_text_contents()
        assert [label.replace(" ", "") for label in labels] == [str(x).replace(" ", "") for x in chart.series[0].x]
    # The sums stand at the ends of stacked bars, the values at the ends of others.
    totals = page.page.evaluate(DRAWN, 0)[-1]
    assert totals["x"] == [sum(series.y[stage] for series in fake_answer.stack().series) for stage in range(4)]
    assert "28.0\xa0GB" in page.page.locator("#chart-0").text_content()
    assert "1.25\xa0s" in page.page.locator("#chart-1").text_content()


def test_charts_of_lines_and_points_draw_every_value_on_their_axes(page: OpenReport) -> None:
    for place in (2, 3):
        chart = fake_answer.answer().charts[place]
        for series, trace in zip(chart.series, page.page.evaluate(DRAWN, place), strict=True):
            assert (trace["name"], trace["x"], trace["y"]) == (series.name, list(series.x), list(series.y))
            assert written(series.y[0], chart.y_unit) in trace["hover"][0]
        layout = page.page.evaluate("place => document.getElementById(`chart-${place}`).layout", place)
        assert (layout["xaxis"]["type"] == "log") == chart.log_x
        assert (layout["yaxis"].get("type") == "log") == chart.log_y
    times = page.page.locator("#chart-2 .xtick").all_text_contents()
    assert times[0] == "1 min"
    assert times[-1].endswith(" d")
    assert "computation (FLOP)" in page.page.locator("#chart-3").text_content()
    moments = page.page.evaluate(DRAWN, 4)[0]
    assert moments["x"] == pytest.approx([10.0 * moment for moment in range(60)])
    assert "time in the step (ms)" in page.page.locator("#chart-4").text_content()


def test_series_of_different_places_are_aligned() -> None:
    series = [Series("one", ["a", "b"], [1.0, 2.0]), Series("two", ["b", "c"], [3.0, float("inf")])]
    chart = Chart("name", "title", "stack", "", "bytes", "", "bytes", series)
    assert aligned(chart) == (["a", "b", "c"], [[1.0, 2.0, None], [None, 3.0, None]])


def test_an_axis_says_its_unit_once() -> None:
    def titles(label: str) -> list[str]:
        chart = Chart("name", "title", "points", "steps", label, "steps", "seconds", [Series("", [1], [2.0])])
        layout = plotly_figure(chart)["layout"]
        return [layout["xaxis"]["title"], layout["yaxis"]["title"]]

    assert titles("time of a step") == ["steps", "time of a step (s)"]
    assert titles("time in s") == ["steps", "time in s"]


def test_points_among_lines_are_not_joined() -> None:
    series = [Series("law", [1, 2], [2.0, 1.0]), Series("runs", [1, 1], [2.0, 1.9], points=True)]
    figure = plotly_figure(Chart("name", "title", "lines", "x", "y", "", "", series))
    assert [trace["mode"] for trace in figure["data"]] == ["lines+markers", "markers"]


def test_curves_have_no_marks() -> None:
    curve = Series("law", list(range(40)), [1.0] * 40)
    figure = plotly_figure(Chart("name", "title", "lines", "x", "y", "", "", [curve]))
    assert figure["data"][0]["mode"] == "lines"


def test_names_that_are_alike_keep_bars_of_their_own() -> None:
    chart = Chart("name", "title", "bars", "", "bytes", "", "bytes", [Series("one", ["same", "same"], [1.0, 2.0])])
    figure = plotly_figure(chart)
    assert figure["data"][0]["y"] == [0, 1]
    assert figure["layout"]["yaxis"]["ticktext"] == ["same", "same"]


@pytest.mark.parametrize("longest", [0.5, 1.0, 200.0, 1e4, 1e5, 1e6, 1e9])
@pytest.mark.parametrize("shortest", [1e-3, 1.0, 3600.0])
def test_times_have_some_ticks_but_not_many(shortest: float, longest: float) -> None:
    low, high = sorted((shortest, longest))
    chart = Chart("name", "title", "points", "time", "loss", "seconds", "", [Series("", [low, high], [1.0, 2.0])],
                  log_x=True)  # fmt: skip
    ticks = plotly_figure(chart)["layout"]["xaxis"]["tickvals"]
    assert 1 <= len(ticks) <= 6
    assert all(low / 1.5 <= tick <= high * 1.5 for tick in ticks)


def test_more_series_than_hues_are_told_apart() -> None:
    def looks(trace: dict[str, Any]) -> str:
        return str((trace["marker"], trace.get("line")))

    for chart in (fake_answer.stack(), fake_answer.lines(12)):
        traces = [trace for trace in plotly_figure(chart)["data"] if trace.get("showlegend", True)]
        assert len(set(map(looks, traces))) == len(chart.series)


def test_the_page_is_silent_readable_and_fits(page: OpenReport) -> None:
    window = page.page
    for summary in window.locator("summary").all():
        summary.click()
    for scheme in ("light", "dark"):
        window.emulate_media(color_scheme=scheme)
        ink = window.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--hue-0').trim()")
        window.wait_for_function("ink => document.getElementById('chart-4').data[0].marker.color === ink", arg=ink)
        ratio, text = window.evaluate(LEAST_CONTRAST)
        assert ratio >= 4.5, f"{text} in {scheme}"
    for width in (1920, 1280, 768, 420, 360):
        window.set_viewport_size({"width": width, "height": 900})
        window.wait_for_function(CHARTS_FIT)
        assert window.evaluate("document.documentElement.scrollWidth") <= width
    levels = window.eval_on_selector_all("h1, h2, h3, h4", "all => all.map(h => Number(h.tagName[1]))")
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert window.locator("table:not(:has(caption))").count() == 0
    assert window.locator("tbody tr:not(:has(th[scope=row]))").count() == 0
    anchors = window.eval_on_selector_all("nav a", "all => all.map(a => a.getAttribute('href').slice(1))")
    assert all(window.locator(f"[id={anchor}]").count() == 1 for anchor in anchors)
    page.assert_silent()


def test_hostile_text_is_shown_as_text(tmp_path: Path, open_report: Callable[[Path], OpenReport]) -> None:
    answer = fake_answer.answer("".join(HOSTILE))
    # Plotly reads some tags of its own.
    text = "<b>x</b> <a href='javascript:alert(1)'>%{y}</a> &lt;"
    charts = [
        Chart("name", text, kind, text, text, "", "", [Series(text, x, [1.0, 2.0]), Series(text, x, [2.0, 3.0])])
        for kind, x in (("bars", [text, "other"]), ("lines", [1.0, 2.0]))
    ]
    report = opened(replace(answer, charts=charts), tmp_path, open_report)
    page = report.page
    assert page.locator("h1").text_content() == answer.title
    assert page.locator("#notes li").last.text_content() == answer.notes[-1]
    assert page.locator("img, .plot a").count() == 0
    assert page.locator("#chart-1 .legendtext").all_text_contents() == [text, text]
    assert page.locator("#chart-1 .xtitle").text_content() == text
    assert page.evaluate("window.broken") is None
    report.assert_silent()


def test_an_answer_of_nothing_but_a_title(tmp_path: Path, open_report: Callable[[Path], OpenReport]) -> None:
    report = opened(Answer("nothing", []), tmp_path, open_report)
    assert report.page.locator("section").count() == 0
    report.assert_silent()
