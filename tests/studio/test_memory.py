from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundup.files import write_atomically
from groundup.pipeline.bench_memory import compare
from groundup.pipeline.bench_process import Trial
from groundup.pipeline.bench_subject import Subject
from groundup.plan.hardware import Hardware
from groundup.recipe import Recipe, TrainRecipe
from groundup.studio.memory import curves, memory_facts, render_memory, stretches
from groundup.train.memory import CATEGORIES, PHASES, Timeline, record_steps

from . import fake_run

DRAWN = """id => document.getElementById(id).data.map(
  (trace) => ({ name: trace.name, colour: trace.line.color, x: [...trace.x], y: [...trace.y] }))"""
DOTS = """all => all.map((row) => [row.dataset.category, getComputedStyle(row.querySelector("i")).backgroundColor,
  row.querySelector("th").childNodes[1].textContent])"""
AS_PAINTED = """colour => {
  const element = document.body.appendChild(document.createElement("i"));
  element.style.backgroundColor = colour;
  const painted = getComputedStyle(element).backgroundColor;
  element.remove();
  return painted;
}"""


@pytest.fixture(scope="module")
def subject() -> Subject:
    settings = TrainRecipe(micro_batch=2, recompute="selective", optimizer="adamw", compile="off")
    trial = Trial(fake_run.shape(num_layers=2, width=96), settings, 4, "bf16", "cpu", 1, 1)
    hardware = Hardware("a <fast> processor", "cpu", 1, 8 << 30, 1e11, 2e11, 1e10)
    return Subject(Recipe(name="<b>tiny</b>"), trial, hardware, ("model.width",))


@pytest.fixture(scope="module")
def steps(subject: Subject) -> list[Timeline]:
    trial = subject.trial
    return record_steps(trial.shape, trial.settings, precision=trial.precision, batch_size=trial.batch_size)


@pytest.fixture(scope="module")
def memory(subject: Subject, steps: list[Timeline]) -> dict[str, Any]:
    return compare(subject.trial, *steps) | {"steps": [step.as_json() for step in steps]}


def _step(totals: list[int], phases: list[str]) -> dict[str, Any]:
    zeros = [0] * len(totals)
    return {"phases": phases, "bytes": dict.fromkeys(CATEGORIES, zeros) | {"other": totals}}


def test_stretches_are_the_phases_in_order() -> None:
    phases = ["forward"] * 3 + ["backward"] * 2 + ["forward", "backward", "update"]
    assert [(row["phase"], row["begin"], row["end"]) for row in stretches(phases)] == [
        ("forward", 0, 3), ("backward", 3, 5), ("forward", 5, 6), ("backward", 6, 7), ("update", 7, 8),
    ]  # fmt: skip


def test_long_steps_are_thinned_and_keep_their_peak() -> None:
    totals = np.random.default_rng(0).integers(0, 1000, 30_000)
    totals[12_345] = 5000
    drawn = curves(_step(totals.tolist(), ["forward"] * 30_000))
    assert len(drawn["places"]) <= 1500
    assert {len(values) for values in drawn["bytes"].values()} == {len(drawn["places"])}
    assert drawn["bytes"]["other"][drawn["places"].index(12_345)] == 5000
    assert drawn["stretches"][-1]["end"] == 30_000


def test_all_categories_and_phases_have_a_row(subject: Subject, memory: dict[str, Any]) -> None:
    facts = memory_facts(subject.as_json(), memory)
    assert {row["name"] for row in facts["categories"]} == set(CATEGORIES)
    assert [row["name"] for row in facts["phases"]] == list(PHASES)


def test_the_page_shows_the_figures(
    subject: Subject,
    memory: dict[str, Any],
    steps: list[Timeline],
    tmp_path: Path,
    open_report: Callable[[Path], Any],
) -> None:
    file = tmp_path / "memory.html"
    write_atomically(file, render_memory(subject.as_json(), memory))
    report = open_report(file)
    page = report.page
    first, later = steps
    for name in CATEGORIES:
        row = page.locator(f'tr[data-category="{name}"]')
        found = [float(value) for value in row.locator("data").evaluate_all("all => all.map(data => data.value)")]
        assert found[1:3] == [first.greatest(name), later.greatest(name)]
        assert found[3] == pytest.approx(found[2] / found[0])
    # Both charts draw each category's bytes in the colour of its row, and a line for their sum.
    rows = page.eval_on_selector_all("tr[data-category]", DOTS)
    for chart, step in (("first", first), ("later", later)):
        *areas, whole = page.evaluate(DRAWN, f"chart-{chart}")
        assert max(whole["y"]) == step.peak
        assert whole["y"] == step.total[whole["x"]].tolist()
        for (category, dot, title), area in zip(rows, areas, strict=True):
            assert (area["name"], page.evaluate(AS_PAINTED, area["colour"])) == (title, dot)
            assert area["y"] == step.bytes[category][area["x"]].tolist()
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 400, "height": 800})
    page.wait_for_function("() => document.documentElement.scrollWidth <= 400")  # charts follow a little later
    assert page.locator("main code").first.inner_text() == "<b>tiny</b>"
    report.assert_silent()
