from collections.abc import Callable
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from groundup.plan.hardware import Hardware
from groundup.studio.bench import effects, render_profile, render_sweep, sweep_facts

from .test_report import CHARTS_FIT, HOSTILE, LEAST_CONTRAST

EVERYTHING = "".join(HOSTILE)
SUBJECT = {
    "recipe": EVERYTHING,
    "budget": "10m",
    "chosen_by_the_planner": ["model.width", "train.batch_size"],
    "shape": {
        "family": "qwen3", "num_layers": 4, "width": 128, "num_heads": 4, "num_kv_heads": 2, "context": 128,
        "vocabulary_size": 2048,
    },
    "parameters": 1_234_567,
    "batch_size": 8,
    "step_tokens": 1024,
    "precision": "bf16",
    "optimizer": "adamw",
    "text": "random tokens",
    "hardware": asdict(Hardware(EVERYTHING, "cpu", 2, 8 << 30, 1e11, 2e11, 1e10)),
}  # fmt: skip
# What each setting multiplies speed and memory by, in this made-up world.
SPEED = {
    "none": 1.0, "selective": 0.9, "full": 0.75, "fp32": 1.0, "bf16": 1.6, "bf16-weights": 1.7,
    "off": 1.0, "on": 1.2,
}  # fmt: skip
MEMORY = {
    "none": 1.0, "selective": 0.7, "full": 0.5, "fp32": 1.0, "bf16": 0.9, "bf16-weights": 1.1,
    "off": 1.0, "on": 1.3,
}  # fmt: skip
OWN = {"micro_batch": 8, "accumulation": 1, "recompute": "none", "precision": "bf16", "compile": "off"}


def rows() -> list[dict[str, Any]]:
    """All points of that world; the last two failed."""
    made = []
    cuts = ((8, 1), (4, 2), (2, 4), (16, 1), (4, 1))
    for (micro, count), recompute, precision, compile_ in product(
        cuts, ("none", "selective", "full"), ("fp32", "bf16", "bf16-weights"), ("off", "on")
    ):
        rate = 1e4 * SPEED[recompute] * SPEED[precision] * SPEED[compile_] * micro**0.1
        made.append(
            {
                "micro_batch": micro, "accumulation": count, "batch_size": micro * count, "recompute": recompute,
                "precision": precision, "compile": compile_, "tokens_per_second": rate, "utilisation": rate / 1e5,
                "step_seconds": micro * count * 128 / rate,
                "peak_bytes": round(1e8 * micro**0.5 * MEMORY[recompute] * MEMORY[precision] * MEMORY[compile_]),
            }
        )  # fmt: skip
    for row in made[-2:]:
        for figure in ("tokens_per_second", "utilisation", "step_seconds", "peak_bytes"):
            del row[figure]
        row["error"] = "out of memory " + EVERYTHING
    return made


@pytest.fixture
def sweep_page(tmp_path: Path, open_report: Callable[[Path], Any]) -> Any:
    file = tmp_path / "sweep.html"
    file.write_text(render_sweep(SUBJECT, rows(), OWN, len(rows())), "utf-8")
    return open_report(file)


@pytest.fixture
def profile_page(tmp_path: Path, open_report: Callable[[Path], Any]) -> Any:
    file = tmp_path / "profile.html"
    file.write_text(render_profile(SUBJECT, profile()), "utf-8")
    return open_report(file)


def work(seconds: float, flops: float = 0.0, calls: float = 3.0) -> dict[str, Any]:
    return {
        "seconds": seconds, "share": seconds / 0.1, "calls": calls, "flops": flops,
        "flops_per_second": flops / seconds if flops else None, "forward_seconds": seconds / 3,
        "backward_seconds": 2 * seconds / 3,
    }  # fmt: skip


def profile() -> dict[str, Any]:
    kinds = {
        "matrix products": work(0.05, 4e9), "attention": work(0.02, 1e8), "loss": work(0.01, 1e9),
        "norms and pointwise": work(0.008), "casts and copies": work(0.002), "optimizer": work(0.004),
        "framework overhead": work(0.006, calls=0),
    }  # fmt: skip
    return {
        "compile": "off", "timeline": EVERYTHING, "steps": 3, "peak_flops_per_second": 2e11,
        "step_seconds": 0.1, "undisturbed_step_seconds": 0.09,
        "kinds": [{"kind": kind} | row for kind, row in kinds.items()],
        "modules": [{"module": f"blocks.*.{EVERYTHING}"} | work(0.06), {"module": "batch"} | work(0.00001)],
        "operators": [{"operator": "mm"} | work(0.05, 4e9)],
    }  # fmt: skip


def numbers(page: Any, selector: str) -> list[float]:
    return [float(value) for value in page.eval_on_selector_all(selector, "all => all.map(data => data.value)")]


def test_the_effect_of_a_setting_is_what_it_multiplies() -> None:
    found = {
        (row["setting"], row["value"]): row for row in effects(sweep_facts(SUBJECT, rows(), OWN, 90)["points"])
    }
    for setting, reference, values in (
        ("Recomputation", "none", ("selective", "full")),
        ("Precision", "fp32", ("bf16", "bf16-weights")),
        ("Compilation", "off", ("on",)),
    ):
        for value in values:
            row = found[setting, value]
            assert row["reference"] == reference
            assert row["tokens_per_second"] == pytest.approx(SPEED[value])
            assert row["peak_bytes"] == pytest.approx(MEMORY[value], rel=1e-6)
    # The same batch of 8 in 2 and in 4 passes; 4 x 1 has no partner.
    assert found["Accumulation", 2]["tokens_per_second"] == pytest.approx(0.5**0.1)
    assert found["Accumulation", 4]["peak_bytes"] == pytest.approx(0.25**0.5, rel=1e-6)
    assert found["Accumulation", 4]["pairs"] == 18
    # Whole batches of 8 and 16 against one of 4; 2 only occurs with 4 passes.
    assert [found["Micro-batch", size]["reference"] for size in (8, 16)] == [4, 4]
    assert found["Micro-batch", 16]["tokens_per_second"] == pytest.approx(4**0.1)


def test_the_page_of_a_sweep_shows_its_points(sweep_page: Any) -> None:
    page = sweep_page.page
    good = sorted((row for row in rows() if "error" not in row), key=lambda row: -row["tokens_per_second"])
    page.locator("summary").click()
    assert numbers(page, ".points .speed data") == [row["tokens_per_second"] for row in good]
    assert numbers(page, ".points .peak data") == [row["peak_bytes"] for row in good]
    assert page.locator(".failures tbody tr").count() == 2
    assert page.locator(".failures td").first.text_content() == "out of memory " + EVERYTHING
    own = page.locator(".points tr.own")
    assert own.count() == 1
    assert own.locator("th").inner_text().split("\n")[0].strip() == "8 × 1"
    assert page.get_by_test_id("state").inner_text() == "Finished"


def drawn(page: Any, chart: str) -> list[dict[str, Any]]:
    script = "id => document.getElementById(id).data.map(t => ({ name: t.name, x: [...t.x], y: [...t.y] }))"
    return page.evaluate(script, f"chart-{chart}")


def test_the_charts_draw_every_point_by_each_setting_and_figure(sweep_page: Any) -> None:
    page = sweep_page.page
    good = [row for row in rows() if "error" not in row]
    for label, figure in (("throughput", "tokens_per_second"), ("utilisation", "utilisation")):
        page.locator("fieldset").get_by_text(label, exact=True).click()
        for field in ("precision", "recompute", "compile", "micro_batch", "accumulation"):
            page.locator(f"label:has(input[name=colour][value={field}])").click()
            *traces, own = drawn(page, "sorted")
            assert own["name"] == "the recipe as it is"
            assert len(own["x"]) == 1
            for trace in traces:
                expected = sorted(row[figure] for row in good if str(row[field]) == trace["name"])
                assert sorted(trace["y"]) == pytest.approx(expected)
            in_order = sorted(pair for trace in traces for pair in zip(trace["x"], trace["y"], strict=True))
            assert [place for place, _ in in_order] == list(range(1, len(good) + 1))
            assert [value for _, value in in_order] == sorted((row[figure] for row in good), reverse=True)
            against = {
                pair for trace in drawn(page, "memory")[:-1] for pair in zip(trace["x"], trace["y"], strict=True)
            }
            assert against == {(row["peak_bytes"], row[figure]) for row in good}


def test_the_page_of_a_profile_shows_its_rows(profile_page: Any) -> None:
    page = profile_page.page
    facts = profile()
    assert page.locator("[data-kind]").evaluate_all("all => all.map(row => row.dataset.kind)") == [
        row["kind"] for row in facts["kinds"]
    ]
    assert numbers(page, "[data-kind] .seconds data") == [row["seconds"] for row in facts["kinds"]]
    assert numbers(page, "[data-kind] .share-of-step data") == [row["share"] for row in facts["kinds"]]
    assert page.locator(".modules tbody th").first.text_content() == f"blocks.*.{EVERYTHING}"
    assert page.locator('[data-kind="matrix products"]').get_by_text("80.0 GFLOP/s").is_visible()
    assert page.locator('[data-kind="matrix products"]').get_by_text("40.0 %").is_visible()


@pytest.mark.parametrize("name", ["sweep_page", "profile_page"])
def test_the_pages_are_silent_readable_and_fit(name: str, request: pytest.FixtureRequest) -> None:
    report = request.getfixturevalue(name)
    page = report.page
    for summary in page.locator("summary").all():
        summary.click()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        ink = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--hue-0').trim()")
        if name == "sweep_page":
            page.wait_for_function(
                "ink => document.getElementById('chart-sorted').data[0].marker.color === ink", arg=ink
            )
        ratio, text = page.evaluate(LEAST_CONTRAST)
        assert ratio >= 4.5, f"{text} in {scheme}"
    for width in (1920, 1280, 768, 420, 360):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(CHARTS_FIT)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.locator("tbody tr:not(:has(th[scope=row]))").count() == 0
    assert page.locator("h1").count() == 1
    assert page.evaluate("window.broken") is None
    report.assert_silent()


@pytest.mark.parametrize("measured", [0, 1, 5])
def test_an_unfinished_sweep(measured: int, tmp_path: Path, open_report: Callable[[Path], Any]) -> None:
    file = tmp_path / "sweep.html"
    file.write_text(render_sweep(SUBJECT, rows()[:measured], OWN, 90), "utf-8")
    report = open_report(file)
    assert report.page.get_by_test_id("state").inner_text() == f"Not finished: {measured} of 90 points measured"
    assert report.page.locator("#points tbody tr").count() == measured
    report.assert_silent()


def test_a_sweep_in_which_all_failed(tmp_path: Path, open_report: Callable[[Path], Any]) -> None:
    file = tmp_path / "sweep.html"
    file.write_text(render_sweep(SUBJECT, rows()[-2:], OWN, 2), "utf-8")
    report = open_report(file)
    assert report.page.locator(".failures tbody tr").count() == 2
    assert report.page.locator(".plot, .card").count() == 0
    report.assert_silent()
