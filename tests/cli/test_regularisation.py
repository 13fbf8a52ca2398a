"""Early stopping and dropout, from the recipe to the outcome."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import TINY, Result, losses, make_text

# Few words of no sense: a model learns them by heart at once.
OPTIONS = [*TINY, "--budget", "150steps", "--set", "train.validations=30", "--set", "train.checkpoint_steps=40"]
OPTIONS += ["--set", "train.lr=2e-2", "--set", "train.precision=fp32", "--set", "train.compile=off"]
PATIENT = [*OPTIONS, "--set", "train.patience=4"]


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 kB, of which 8 kB are held out."""
    path = tmp_path_factory.mktemp("little") / "words.txt"
    path.write_text(make_text(20_000, seed=3), "utf-8")
    return path


def _rows(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{key: row[key] for key in ("step", "loss", "val_loss") if key in row} for row in rows]


def test_a_run_stops_early_and_after_a_kill_comes_to_the_same(
    little: Path,
    build: Callable[..., dict[str, Any]],
    build_and_stop: Callable[..., tuple[int, str]],
    groundup: Callable[..., Result],
    tmp_path: Path,
) -> None:
    answer = groundup("build", little, *PATIENT, "--out", tmp_path / "whole", "--json")
    assert answer.returncode == 0, answer.stderr
    outcome = json.loads(answer.stdout)
    rows = _rows(tmp_path / "whole")
    best = min((row for row in rows if "val_loss" in row), key=lambda row: row["val_loss"])
    assert outcome["stopped_early"]
    assert outcome["best_step"] == best["step"] < outcome["steps"] < 150
    assert f"the model of step {best['step']} is kept" in answer.stderr
    assert f"stopped early after step {outcome['steps']}: " in answer.stderr
    card = (tmp_path / "whole" / "model" / "README.md").read_text("utf-8")
    assert f"| kept | the model of step {best['step']}," in card
    code, _ = build_and_stop(tmp_path / "parts", signal.SIGKILL, best["step"] + 10, little, *PATIENT)
    assert code == -signal.SIGKILL
    again = build("--resume", "--out", tmp_path / "parts")
    assert _rows(tmp_path / "parts") == rows
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]
    assert (again["best_step"], again["loss"]) == (outcome["best_step"], outcome["loss"])


def test_two_processes_stop_together(little: Path, groundup: Callable[..., Result], tmp_path: Path) -> None:
    named, options = PATIENT[1], PATIENT[2:]
    answer = groundup("train", named, little, *options, "--nproc", "2", "--out", tmp_path / "run", "--json")
    assert answer.returncode == 0, answer.stderr
    outcome, rows = json.loads(answer.stdout), _rows(tmp_path / "run")
    best = min((row for row in rows if "val_loss" in row), key=lambda row: row["val_loss"])
    assert outcome["stopped_early"]
    assert outcome["best_step"] == best["step"] < outcome["steps"] == rows[-1]["step"]


def test_dropout_reaches_the_model(little: Path, build: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    few = ["--set", "train.validations=1", "--budget", "10steps"]
    for name, share in (("plain", 0.0), ("dropping", 0.3), ("again", 0.3)):
        build(little, *OPTIONS, *few, "--set", f"model.dropout={share}", "--out", tmp_path / name)
    found = [losses(tmp_path / name) for name in ("plain", "dropping", "again")]
    assert found[0] != found[1] == found[2]
