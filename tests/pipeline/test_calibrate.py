from pathlib import Path

import pytest
import torch
from rich.console import Console

from groundup.pipeline import calibrate
from groundup.pipeline.calibration import load_calibration
from groundup.pipeline.display import Display
from groundup.pipeline.planning import Asked, plan_answer
from groundup.plan.speed import WEIGHTS
from groundup.recipe import Recipe, TrainRecipe


def test_a_probe_is_stored_and_later_plans_rest_on_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With fewer and shorter probes than a user's."""
    monkeypatch.setenv("GROUNDUP_CACHE", str(tmp_path))
    monkeypatch.setattr(calibrate, "_PROBES", ((1, 32, 32, 4, 300), (2, 64, 64, 4, 512), (2, 32, 64, 8, 300)))
    monkeypatch.setattr(calibrate, "_SECONDS_A_PROBE", 0.05)
    settings = TrainRecipe(threads=1, device="cpu")
    threads = torch.get_num_threads()
    try:
        answer = calibrate.calibrate(settings, Display(Console(quiet=True)))
    finally:
        torch.set_num_threads(threads)
    values = answer.as_json()
    assert [row["layers_x_width"] for row in values["steps"]] == ["1 x 32", "2 x 64", "2 x 32"]
    assert all(row["seconds"] > 0 and row["formula_seconds"] > 0 for row in values["steps"])

    known = load_calibration(settings)
    assert known is not None
    assert known.probed
    assert (known.hardware.flops_fp32, known.hardware.threads) == (values["flops_fp32"], 1)
    assert set(known.calibrated().speed or {}) == set(WEIGHTS)
    planned = plan_answer(Recipe(budget="10m", train=settings), Asked())
    assert planned.title.endswith(known.hardware.name)
    assert not any("calibrate" in note for note in planned.notes)
    speed = next(figure for figure in planned.figures if figure.name == "tokens_per_second")
    assert "calibrated" in speed.source
