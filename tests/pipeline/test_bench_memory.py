import json
from pathlib import Path

import pytest
from rich.console import Console

from groundup.pipeline.bench_memory import PAGE, SERIES, memory_timeline
from groundup.pipeline.bench_subject import Subject
from groundup.pipeline.display import Display
from groundup.plan.hardware import Hardware
from groundup.plan.memory import train_bytes
from groundup.recipe import Recipe
from groundup.train.memory import CATEGORIES, PHASES

from .support import tiny_trial


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_figures_are_returned_shown_and_written(tmp_path: Path, recompute: str) -> None:
    trial = tiny_trial(recompute=recompute, optimizer="adamw")
    subject = Subject(Recipe(), trial, Hardware("a processor", "cpu", 1, 8 << 30, 1e11, 2e11, 1e10), ())
    console = Console(record=True, width=100, file=(tmp_path / "screen").open("w"))
    figures = memory_timeline(subject, tmp_path, Display(console))
    json.dumps(figures, allow_nan=False)
    assert figures["predicted_resident_bytes"] == train_bytes(trial.shape, 8, "bf16", trial.settings)
    assert figures["peak_bytes"] == pytest.approx(figures["predicted_peak_bytes"], rel=0.1)
    assert set(figures["categories"]) == set(CATEGORIES)
    shown = console.export_text()
    assert all(name in shown for name in (*CATEGORIES, *PHASES, figures["page"]))
    written = json.loads((tmp_path / SERIES).read_text())
    assert {name: written[name] for name in ("peak_bytes", "categories", "phases")} == {
        name: figures[name] for name in ("peak_bytes", "categories", "phases")
    }
    first, later = written["steps"]
    totals = [sum(values) for values in zip(*later["bytes"].values(), strict=True)]
    assert max(totals) == figures["peak_bytes"]
    assert set(first["phases"]) == set(PHASES)
    assert (tmp_path / PAGE).read_text("utf-8").startswith("<!doctype html>")
