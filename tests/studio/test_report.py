import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from groundup.recipe import parse
from groundup.run import Run, read_rows
from groundup.studio import write_report

from . import fake_run

TEXTS = {
    "": ["abc", "A lake is a lake."],
    "The ": ["the of", "sea is wide."],
    "春天": ["的的", "来了,河水唱着歌。"],
}
HOSTILE = (
    "<script>window.broken = 1</script>",
    '</script><script>window.broken = 1</script><img src="https://example.org/x" onerror="window.broken = 1">',
    "<!--<script>",
    "]]></style></details></blockquote>{{ 7 * 7 }}{% raw %}",
    '" onmouseover="window.broken = 1" \'&amp;&lt;',
    "line\u2028separator\u2029and <a href='javascript:alert(1)'>link</a>",
)
# Plotly redraws some time after the window has changed.
CHARTS_FIT = """() => [...document.querySelectorAll(".plot")].every(
  (plot) => plot.querySelector(".main-svg").clientWidth === plot.clientWidth && plot.clientWidth < innerWidth)"""
# The least contrast of all text on the page: the ratio of WCAG 2 with what is painted behind it.
LEAST_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const painted = (colours) => {
    canvas.globalCompositeOperation = "source-over";
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (rgb) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const ratios = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility() || element.closest("script, noscript")) continue;
    const backgrounds = [];
    for (let e = element; e; e = e.parentElement) backgrounds.unshift(getComputedStyle(e).backgroundColor);
    const style = getComputedStyle(element);
    const ink = element.closest("svg") ? style.fill : style.color;
    const shades = [painted(backgrounds), painted([...backgrounds, ink])];
    const [low, high] = shades.map(luminance).sort((a, b) => a - b);
    ratios.push([(high + 0.05) / (low + 0.05), node.data.trim()]);
  }
  return ratios.sort((a, b) => a[0] - b[0])[0];
}"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = fake_run.finished_run(tmp_path_factory.mktemp("runs") / "finished", TEXTS)
    assert write_report(run) == run.report_file
    return run


@pytest.fixture(scope="module")
def page(run: Run, browser: Browser) -> Iterator[Page]:
    """The finished run's report, for tests that only look."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(run.report_file.as_uri())
        yield page


def values(page: Page, selector: str) -> list[float]:
    """The machine-readable values of the numbers that match."""
    return [float(value) for value in page.eval_on_selector_all(selector, "all => all.map(data => data.value)")]


def drawn(page: Page, chart: str) -> list[dict[str, Any]]:
    """What plotly has drawn: x, y and line colour by trace."""
    script = (
        "id => document.getElementById(id).data.map(t => ({ x: [...t.x], y: [...t.y], colour: t.line.color }))"
    )
    return page.evaluate(script, f"chart-{chart}")


def test_the_page_needs_no_network_and_complains_of_nothing(run: Run, open_report: Any):
    report = open_report(run.report_file)
    assert report.page.locator(".plot .main-svg").first.is_visible()
    report.page.get_by_text("Show recipe.toml").click()
    for label in ("tokens", "time", "steps"):
        report.page.get_by_text(label, exact=True).first.click()
    report.page.emulate_media(color_scheme="dark")
    report.page.set_viewport_size({"width": 400, "height": 800})
    report.page.wait_for_function(CHARTS_FIT)
    report.assert_silent()


def test_the_figures_on_the_page_are_those_of_the_files(run: Run, page: Page):
    plan, outcome = run.read_json(run.plan_file), run.read_json(run.outcome_file)
    for field in ("bits_per_byte", "train_seconds", "steps", "tokens", "flops", "tokens_per_second", "peak_bytes"):
        row = f'tr[data-field="{field}"]'
        assert values(page, f"{row} .predicted data") == [plan[field]]
        assert values(page, f"{row} .measured data") == [outcome[field]]
        assert values(page, f"{row} .miss data") == [pytest.approx(outcome[field] / plan[field] - 1)]
    cards = dict(zip(page.locator(".card dt").all_inner_texts(), values(page, ".card .figure data"), strict=True))
    assert cards == {
        "Bits per byte": outcome["bits_per_byte"],
        "Parameters": outcome["parameters"],
        "Tokens": outcome["tokens"],
        "Training time": outcome["train_seconds"],
        "Tokens per second": outcome["tokens_per_second"],
        "Utilisation": outcome["utilisation"],
        "Peak memory": outcome["peak_bytes"],
        "Energy": outcome["energy_wh"],
    }
    assert page.locator('tr[data-field="peak_bytes"] .measured').inner_text() == "1.81\xa0GB"
    for stage, seconds in outcome["stages"].items():
        assert values(page, f'tr[data-stage="{stage}"] td:nth-of-type(1) data') == [seconds]
    assert sum(values(page, ".ledger tbody .n data")) == plan["parameters"]
    assert page.get_by_test_id("state").inner_text() == "Finished"


def test_the_charts_draw_the_metrics(run: Run, open_report: Any):
    page = open_report(run.report_file).page
    rows = list(read_rows(run.metrics_file))
    train, validation = [row for row in rows if "loss" in row], [row for row in rows if "val_loss" in row]
    raw, _, held_out = drawn(page, "loss")
    assert held_out["x"] == [row["step"] for row in validation]
    assert held_out["y"] == pytest.approx([row["val_bits_per_byte"] for row in validation], rel=1e-5)
    per_nat = validation[-1]["val_bits_per_byte"] / validation[-1]["val_loss"]
    assert raw["y"] == pytest.approx([row["loss"] * per_nat for row in train], rel=1e-5)
    assert drawn(page, "grad_norm")[0]["y"] == pytest.approx([row["grad_norm"] for row in train], rel=1e-6)
    for label, column in (("tokens", "tokens"), ("time", "seconds")):
        page.get_by_text(label, exact=True).first.click()
        for chart in ("loss", "lr", "grad_norm", "throughput"):
            assert drawn(page, chart)[0]["x"] == pytest.approx([row[column] for row in train], rel=1e-6)


def test_all_text_is_readable_in_light_and_dark(run: Run, open_report: Any):
    page = open_report(run.report_file).page
    page.get_by_text("Show recipe.toml").click()
    colours = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        ink = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--train').trim()")
        page.wait_for_function("ink => document.getElementById('chart-lr').data[0].line.color === ink", arg=ink)
        colours.append(ink)
        ratio, text = page.evaluate(LEAST_CONTRAST)
        assert ratio >= 4.5, f"{text} in {scheme}"
    assert colours[0] != colours[1]


def test_nothing_is_wider_than_the_window(run: Run, open_report: Any):
    page = open_report(run.report_file).page
    for width in (1920, 1280, 768, 420, 360):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(CHARTS_FIT)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_headings_and_tables_are_structured(page: Page):
    levels = page.eval_on_selector_all("h1, h2, h3, h4", "all => all.map(h => Number(h.tagName[1]))")
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.locator("tbody tr:not(:has(th[scope=row]))").count() == 0
    anchors = page.eval_on_selector_all("nav a", "all => all.map(a => a.getAttribute('href').slice(1))")
    assert all(page.locator(f"[id={anchor}]").count() == 1 for anchor in anchors)


def test_samples_show_prompt_and_text(page: Page):
    last = page.locator(".timeline li").last
    assert last.locator("blockquote").all_text_contents() == [
        "start of a documentA lake is a lake.",
        "The sea is wide.",
        "春天来了,河水唱着歌。",
    ]
    assert last.locator("mark").all_text_contents() == ["start of a document", "The ", "春天"]


def test_hostile_text_is_shown_as_text(tmp_path: Path, open_report: Any):
    run = fake_run.finished_run(tmp_path / "run", {text: [text] for text in HOSTILE}, steps=8)
    everything = "".join(HOSTILE)
    run.save_recipe(parse({"name": everything, "description": everything}, "test"))
    plan = run.read_json(run.plan_file)
    plan["corpus"] |= {"sources": [everything], "attribution": [everything]}
    plan["hardware"]["name"] = plan["law"] = plan["budget"]["text"] = everything
    run.save_plan(plan)
    report = open_report(write_report(run))
    page = report.page
    shown = page.locator(".timeline li").last.locator("blockquote").all_text_contents()
    assert shown == [text + text for text in HOSTILE]
    assert page.locator("h1").text_content() == everything
    assert page.locator("#data li").all_text_contents() == [everything, everything]
    assert page.locator("img, blockquote a").count() == 0
    assert page.evaluate("window.broken") is None
    assert page.locator(".plot .main-svg").first.is_visible()
    report.assert_silent()


def test_a_script_that_is_not_the_pages_own_is_not_run(run: Run, tmp_path: Path, open_report: Any):
    smuggled = tmp_path / "report.html"
    page = run.report_file.read_text("utf-8")
    smuggled.write_text(page.replace("<main", "<script>window.broken = 1</script><main", 1), encoding="utf-8")
    report = open_report(smuggled)
    assert report.page.evaluate("window.broken") is None
    assert any("Content Security Policy" in message for message in report.messages)


@pytest.mark.parametrize("steps", [1, 30])
def test_an_unfinished_run_says_so(tmp_path: Path, open_report: Any, steps: int):
    run = fake_run.new_run(tmp_path / "run")
    fake_run.add_plan(run, steps=80)
    fake_run.add_metrics(run, steps=steps, planned=80)
    with run.metrics_file.open("a") as file:
        file.write('{"step": 31, "tok')  # torn by a crash
    report = open_report(write_report(run))
    assert report.page.get_by_test_id("state").inner_text().startswith("Not finished: ")
    assert values(report.page, "[data-testid=state] data")[-1] == steps
    assert report.page.locator('tr[data-field="tokens"] .miss').inner_text() == "–"
    assert len(drawn(report.page, "lr")[0]["y"]) == steps
    report.assert_silent()


def test_a_run_without_plan_or_steps(tmp_path: Path, open_report: Any):
    run = fake_run.new_run(tmp_path / "run")
    report = open_report(write_report(run))
    assert report.page.get_by_test_id("state").inner_text() == "Not finished: no step taken yet"
    assert report.page.locator(".plot, .card, table").count() == 0
    report.assert_silent()


def test_a_planned_run_without_steps(tmp_path: Path, open_report: Any):
    run = fake_run.new_run(tmp_path / "run")
    plan = fake_run.add_plan(run, steps=80)
    report = open_report(write_report(run))
    assert values(report.page, 'tr[data-field="tokens"] .predicted data') == [plan["tokens"]]
    assert sum(values(report.page, ".ledger tbody .n data")) == plan["parameters"]
    report.assert_silent()


def test_steps_without_validation_or_plan(tmp_path: Path, open_report: Any):
    run = fake_run.new_run(tmp_path / "run")
    rows = fake_run.add_metrics(run, steps=5, planned=80)
    report = open_report(write_report(run))
    losses = drawn(report.page, "loss")[0]["y"]
    assert losses == pytest.approx([row["loss"] for row in rows], rel=1e-5)  # in nats: bytes are not known
    report.assert_silent()


def test_figures_that_a_machine_cannot_measure_are_left_out(tmp_path: Path, open_report: Any):
    run = fake_run.finished_run(tmp_path / "run", TEXTS, steps=8)
    outcome = run.read_json(run.outcome_file)
    run.save_outcome(outcome | {"energy_wh": None, "utilisation": None})
    page = open_report(write_report(run)).page
    assert "Energy" not in page.locator(".card dt").all_inner_texts()


def test_the_same_run_gives_the_same_bytes(run: Run):
    before = run.report_file.read_bytes()
    write_report(run)
    assert run.report_file.read_bytes() == before


def test_a_long_run_gives_a_small_page(tmp_path: Path):
    run = fake_run.new_run(tmp_path / "run")
    fake_run.add_plan(run, steps=20_000)
    fake_run.add_metrics(run, steps=20_000, planned=20_000, validations=4000)
    page = write_report(run).read_text("utf-8")
    embedded = page.split('id="figures">')[1].split("</script>")[0]
    figures = json.loads(embedded)
    points = [len(trace["y"]) for figure in figures.values() for trace in figure["data"]]
    assert max(points) <= 1500
    assert len(embedded) < 1_000_000
