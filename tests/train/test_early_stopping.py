"""Early stopping: a model that learns four windows by heart is best on others before, and that one is kept."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.run import truncate_rows
from groundup.train import checkpoints
from groundup.train.early_stopping import Best
from groundup.train.progress import StepProgress, TimeProgress
from groundup.train.trainer import Interrupted, StepReport, Trainer

from .conftest import BATCH, CONTEXT, NOISE, VOCABULARY, MakeTrainer, RecordingHooks, metrics_of, weights_of

STEPS = 120
SETTINGS = {"validations": 40, "checkpoint_steps": 10, "keep_checkpoints": 1, "lr": 2e-2}


class FewWindows:
    """The language of the shards, but only a handful of its windows."""

    def __init__(self) -> None:
        random = np.random.default_rng(1)
        self._windows = random.integers(0, VOCABULARY, (BATCH, CONTEXT + 1))
        for place in range(1, CONTEXT + 1):
            follows = random.random(BATCH) >= NOISE
            rule = (5 * self._windows[:, place - 1] + 3) % VOCABULARY
            self._windows[:, place] = np.where(follows, rule, self._windows[:, place])

    def windows(self, first: int, count: int) -> npt.NDArray[np.int64]:
        return self._windows[np.arange(first, first + count) % BATCH]


def _trainer(make_trainer: MakeTrainer, folder: Path, **settings: Any) -> Trainer:
    trainer = make_trainer(folder, **{**SETTINGS, **settings})
    trainer.batches = FewWindows()
    return trainer


def _validations(folder: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["val_loss"]) for row in metrics_of(folder) if "val_loss" in row]


def _measured(trainer: Trainer) -> float:
    hooks = trainer.hooks
    assert isinstance(hooks, RecordingHooks)
    return hooks.validate(trainer.model.eval()).loss


@given(st.lists(st.integers(0, 5), min_size=1))
def test_the_best_is_the_first_of_the_lowest(losses: list[int]) -> None:
    best = Best()
    for step, loss in enumerate(losses, 1):
        best = best.after(step, loss)
    first = losses.index(min(losses)) + 1
    assert best == Best(first, min(losses), len(losses) - first)


@pytest.mark.parametrize("settings", [{}, {"ema": 0.8}, {"precision": "bf16-weights"}, {"patience": 1}], ids=str)
def test_it_ends_where_nothing_improves_and_keeps_the_best(
    make_trainer: MakeTrainer, tmp_path: Path, settings: dict[str, Any]
) -> None:
    patience = settings.get("patience", 3)
    trainer = _trainer(make_trainer, tmp_path, **{"patience": patience, **settings})
    state = trainer.train(StepProgress(STEPS))
    rows = _validations(tmp_path)
    step, loss = min(rows, key=lambda row: row[1])
    assert state.stopped_early
    assert state.step < STEPS
    assert state.kept_step == step == rows[-1 - patience][0]
    assert rows[-1][0] == state.step == metrics_of(tmp_path)[-1]["step"]
    assert _measured(trainer) == loss < rows[-1][1]
    kept = [path.name for path in checkpoints.list_checkpoints(tmp_path / "checkpoints")]
    assert kept == [f"step-{state.step}", f"step-{step}"]


def test_the_best_is_kept_at_the_end_of_a_run_too(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """Training itself, its schedule included, is the same with and without."""
    trainer = _trainer(make_trainer, tmp_path / "with", patience=99)
    state = trainer.train(StepProgress(STEPS))
    plain = _trainer(make_trainer, tmp_path / "without")
    assert plain.train(StepProgress(STEPS)).kept_step == STEPS
    assert metrics_of(tmp_path / "with") == metrics_of(tmp_path / "without")
    assert not state.stopped_early
    assert state.step == STEPS > state.kept_step
    assert _measured(trainer) == min(loss for _, loss in _validations(tmp_path / "with")) < _measured(plain)


def test_a_run_that_still_improves_keeps_its_last_step(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, patience=2, validations=4)
    state = trainer.train(StepProgress(60))
    assert (state.stopped_early, state.kept_step, state.step) == (False, 60, 60)
    assert _measured(trainer) == _validations(tmp_path)[-1][1]


@pytest.mark.parametrize(("how", "ema"), [("signal", None), ("crash", 0.8)])
def test_a_stopped_run_comes_to_the_same(
    make_trainer: MakeTrainer, tmp_path: Path, how: str, ema: float | None
) -> None:
    """Around the best step, and around the one where it ends."""
    whole = _trainer(make_trainer, tmp_path / "whole", patience=3, ema=ema)
    state = whole.train(StepProgress(STEPS))
    best, end = state.kept_step, state.step
    for stopped_at in (best, best + 1, end - 1, end):
        folder = tmp_path / f"stopped-at-{stopped_at}"

        def stop(report: StepReport, at: int = stopped_at) -> None:
            if report.state.step == at:
                if how == "crash":
                    raise MemoryError
                os.kill(os.getpid(), signal.SIGINT)

        with suppress(Interrupted, MemoryError):
            _trainer(make_trainer, folder, patience=3, ema=ema, after_step=stop).train(StepProgress(STEPS))
        checkpoint = checkpoints.newest_intact(folder / "checkpoints", pytest.fail)
        assert checkpoint is not None
        step = checkpoints.read_state(checkpoint).step
        truncate_rows(folder / "metrics.jsonl", step, last_validation=step - 1)
        again = _trainer(make_trainer, folder, patience=3, ema=ema, seed=99)
        again.resume(checkpoint)
        resumed = again.train(StepProgress(STEPS))
        assert (resumed.step, resumed.best, resumed.stopped_early) == (end, state.best, True)
        assert metrics_of(folder) == metrics_of(tmp_path / "whole")
        assert weights_of(again) == weights_of(whole)


def test_a_run_that_was_stopped_while_it_ended_ends_again(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """As after a kill before anything was made of the kept model."""
    first = _trainer(make_trainer, tmp_path, patience=3)
    state, before = first.train(StepProgress(STEPS)), metrics_of(tmp_path)
    truncate_rows(tmp_path / "metrics.jsonl", state.step, last_validation=state.step - 1)
    again = _trainer(make_trainer, tmp_path, patience=3, seed=99)
    again.resume(tmp_path / "checkpoints" / f"step-{state.step}")
    assert again.train(StepProgress(STEPS)).best == state.best
    assert metrics_of(tmp_path) == before
    assert weights_of(again) == weights_of(first)


def test_a_best_that_is_damaged_is_looked_for_anew(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    state = _trainer(make_trainer, tmp_path, patience=3).train(StepProgress(STEPS))
    (tmp_path / "checkpoints" / f"step-{state.kept_step}" / "model.safetensors").write_bytes(b"torn")
    again = _trainer(make_trainer, tmp_path, patience=3, seed=99)
    again.resume(tmp_path / "checkpoints" / f"step-{state.step}")
    found = again.train(StepProgress(STEPS))
    assert found.kept_step >= state.step
    assert _measured(again) == found.best.loss > state.best.loss


def test_by_the_clock(make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends before the time is up, and until then the learning rate is that of a run to its end."""
    now = time.monotonic()

    def clock() -> float:
        nonlocal now
        now += 1e-6
        return now

    def pass_time(_report: StepReport) -> None:
        nonlocal now
        now += 0.5

    monkeypatch.setattr(time, "monotonic", clock)
    rates = {}
    for name, patience in (("with", 3), ("without", None)):
        trainer = _trainer(make_trainer, tmp_path / name, patience=patience, after_step=pass_time)
        state = trainer.train(TimeProgress(0.5 * STEPS + 0.1))
        assert state.stopped_early == (patience is not None)
        assert (state.step == STEPS) == (patience is None)
        rates[name] = [row["lr"] for row in metrics_of(tmp_path / name) if "lr" in row]
    assert rates["with"] == pytest.approx(rates["without"][: len(rates["with"])], rel=1e-3)
