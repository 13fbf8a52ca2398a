"""How the trainer stops, saves and goes on: after signals, crashes and bad losses, by steps and by the clock."""

import math
import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from groundup.data import Batches, Shards
from groundup.errors import UserError
from groundup.run import truncate_rows
from groundup.train import checkpoints
from groundup.train.progress import StepProgress, TimeProgress
from groundup.train.trainer import Interrupted, StepReport, Trainer

from .conftest import BATCH, CONTEXT, STEPS, MakeTrainer, metrics_of, steps_of, weights_of


def _interrupt_at(step: int, number: int = signal.SIGINT) -> Any:
    def interrupt(report: StepReport) -> None:
        if report.state.step == step:
            os.kill(os.getpid(), number)

    return interrupt


def _assert_same_end(folder: Path, other: Path) -> None:
    ends = [folder / "checkpoints" / f"step-{STEPS}" for folder in (folder, other)]
    files = [{path.name: path.read_bytes() for path in end.glob("*.safetensors")} for end in ends]
    assert files[0].keys() == files[1].keys() >= {"model.safetensors", "optimizer.safetensors"}
    for name, content in files[0].items():
        assert content == files[1][name], name
    assert steps_of(folder) == steps_of(other)


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "fp32"},
        {"precision": "bf16"},
        {"precision": "bf16-weights"},
        {"precision": "fp16"},
        {"ema": 0.7},
        {"ema": 0.7, "precision": "bf16-weights"},
        {"batch_warmup": 0.8, "batch_warmup_from": 0.25, "micro_batch": 1},
        {"schedule": "trapezoid", "cooldown": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("stopped_at", [1, 5, 11])
def test_a_stopped_run_goes_on_bit_for_bit(
    make_trainer: MakeTrainer, tmp_path: Path, stopped_at: int, settings: dict[str, Any]
) -> None:
    """Weights, the optimizer's state, the average and the logged losses of one run and of one in two parts."""
    make_trainer(tmp_path / "whole", **settings).train(StepProgress(STEPS))
    parts = tmp_path / "parts"
    first = make_trainer(parts, **settings, after_step=_interrupt_at(stopped_at))
    with pytest.raises(Interrupted):
        first.train(StepProgress(STEPS))
    second = make_trainer(parts, **settings, seed=99)  # a model that shares nothing with the first
    checkpoint = checkpoints.newest_intact(parts / "checkpoints", pytest.fail)
    assert checkpoint is not None
    second.resume(checkpoint)
    assert second.state.step == stopped_at
    assert second.state.seconds > 0
    second.train(StepProgress(STEPS))
    _assert_same_end(tmp_path / "whole", parts)


@pytest.mark.parametrize("by_clock", [False, True])
def test_data_is_read_once_and_in_order_while_the_batch_grows(
    make_trainer: MakeTrainer, shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_clock: bool
) -> None:
    """Over three sessions, with sizes that follow the steps or the clock."""
    clock = _Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    seen: list[npt.NDArray[np.int64]] = []
    for session, stopped_at in enumerate((5, 6, None)):

        def after_step(report: StepReport, stopped_at: int | None = stopped_at) -> None:
            clock.now += 0.5
            if report.state.step == stopped_at:
                os.kill(os.getpid(), signal.SIGINT)

        trainer = make_trainer(
            tmp_path, seed=session, after_step=after_step, batch_warmup=0.7, micro_batch=1, keep_checkpoints=9
        )
        if session:
            trainer.resume(checkpoints.list_checkpoints(tmp_path / "checkpoints")[0])
        _note_windows(trainer, seen)
        time_spent = trainer.state.seconds
        with suppress(Interrupted):
            trainer.train(TimeProgress(8.0, time_spent) if by_clock else StepProgress(STEPS))
    sizes = [len(windows) for windows in seen]
    assert sizes == sorted(sizes)
    assert set(sizes) == {1, 2, 3, 4}
    assert trainer.state.windows == sum(sizes) == trainer.state.tokens / CONTEXT
    assert (np.concatenate(seen) == Batches(shards, 3, CONTEXT).windows(0, sum(sizes))).all()


def _note_windows(trainer: Trainer, seen: list[npt.NDArray[np.int64]]) -> None:
    accumulate = trainer.take_step.accumulate

    def noting(windows: npt.NDArray[np.int64], first: int = 0) -> Any:
        seen.append(windows)
        return accumulate(windows, first)

    trainer.take_step.accumulate = noting  # type: ignore[method-assign]


def test_a_crashed_run_goes_on_from_its_last_checkpoint(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """The steps after the checkpoint are taken again, their rows dropped."""
    make_trainer(tmp_path / "whole").train(StepProgress(STEPS))
    parts = tmp_path / "parts"

    def crash(report: StepReport) -> None:
        if report.state.step == 9:
            raise MemoryError

    with pytest.raises(MemoryError):
        make_trainer(parts, checkpoint_steps=3, after_step=crash).train(StepProgress(STEPS))
    checkpoint = checkpoints.newest_intact(parts / "checkpoints", pytest.fail)
    assert checkpoint is not None
    assert checkpoint.name == "step-6"
    truncate_rows(parts / "metrics.jsonl", 6)
    second = make_trainer(parts, seed=99, checkpoint_steps=3)
    second.resume(checkpoint)
    second.train(StepProgress(STEPS))
    _assert_same_end(tmp_path / "whole", parts)


def test_a_stopped_run_is_validated_at_the_same_steps(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    whole = make_trainer(tmp_path / "whole", validations=4)
    whole.train(StepProgress(STEPS))
    for stopped_at in range(1, STEPS):
        parts = tmp_path / f"stopped-at-{stopped_at}"
        first = make_trainer(parts, validations=4, after_step=_interrupt_at(stopped_at))
        with pytest.raises(Interrupted):
            first.train(StepProgress(STEPS))
        second = make_trainer(parts, validations=4)
        second.resume(parts / "checkpoints" / f"step-{stopped_at}")
        second.train(StepProgress(STEPS))
        assert first.hooks.validated + second.hooks.validated == whole.hooks.validated, stopped_at


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(make_trainer: MakeTrainer, tmp_path: Path, number: signal.Signals) -> None:
    handlers = [signal.getsignal(caught) for caught in (signal.SIGINT, signal.SIGTERM)]
    trainer = make_trainer(tmp_path, after_step=_interrupt_at(4, number))
    with pytest.raises(Interrupted) as stopped:
        trainer.train(StepProgress(STEPS))
    assert [signal.getsignal(caught) for caught in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert (stopped.value.state.step, stopped.value.signal) == (4, number)
    saved = tmp_path / "checkpoints" / "step-4"
    assert checkpoints.damage(saved) is None
    state, stopped_at = checkpoints.read_state(saved), stopped.value.state
    assert stopped_at.checkpoint_seconds > state.checkpoint_seconds  # the copy itself took some time
    assert replace(stopped_at, checkpoint_seconds=state.checkpoint_seconds) == state
    assert steps_of(tmp_path)[-1]["step"] == 4


def test_ctrl_c_while_the_end_is_measured_loses_nothing(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    measure = trainer.hooks.validate

    def interrupted(model: torch.nn.Module) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return measure(model)

    trainer.hooks.validate = interrupted
    with pytest.raises(Interrupted):
        trainer.train(StepProgress(STEPS))
    checkpoint = checkpoints.newest_intact(tmp_path / "checkpoints", pytest.fail)
    assert checkpoint is not None
    assert checkpoint.name == f"step-{STEPS}"
    before = metrics_of(tmp_path)
    assert sum("val_loss" in row for row in before) == 1
    truncate_rows(tmp_path / "metrics.jsonl", STEPS, last_validation=STEPS - 1)
    again = make_trainer(tmp_path, seed=99)
    again.resume(checkpoint)
    again.train(StepProgress(STEPS))
    assert metrics_of(tmp_path) == before


def test_the_scale_of_the_loss_is_kept(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """What float16 found out so far, and how long it has held."""
    first = make_trainer(tmp_path, precision="fp16", after_step=_interrupt_at(3))
    scaler = first.take_step.scaler
    scaler.load_state_dict(scaler.state_dict() | {"scale": 8.0, "_growth_tracker": 5})
    with pytest.raises(Interrupted):
        first.train(StepProgress(STEPS))
    second = make_trainer(tmp_path, precision="fp16")
    second.resume(tmp_path / "checkpoints" / "step-3")
    found = second.take_step.state_dict()
    assert found == first.take_step.state_dict()
    assert (found["scale"], found["_growth_tracker"]) == (8.0, 8)


def test_a_full_disk_ends_the_run_at_the_next_step(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("in the way")

    def wait(report: StepReport) -> None:
        while trainer.writer.is_writing:
            time.sleep(0.001)

    trainer = make_trainer(tmp_path, checkpoint_steps=4, after_step=wait)
    with pytest.raises(UserError, match=r"could not save .*step-4: .*; make room, then continue with --resume"):
        trainer.train(StepProgress(STEPS))
    assert [row["step"] for row in steps_of(tmp_path)] == [1, 2, 3, 4, 5]


def test_a_batch_that_cannot_be_read_ends_the_run_as_it_is(
    make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error comes from the other thread; the checkpoint under way is finished."""
    monkeypatch.setattr("groundup.train.trainer._WINDOWS_AHEAD", BATCH)
    trainer = make_trainer(tmp_path, checkpoint_steps=4)
    windows = trainer.batches.windows

    def failing(first: int, count: int) -> Any:
        if first >= 4 * BATCH:
            raise UserError("the shard is gone")
        return windows(first, count)

    trainer.batches.windows = failing
    with pytest.raises(UserError, match=r"^the shard is gone$"):
        trainer.train(StepProgress(STEPS))
    assert checkpoints.damage(tmp_path / "checkpoints" / "step-4") is None


@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e38])
def test_a_loss_that_is_not_finite_ends_the_run(make_trainer: MakeTrainer, tmp_path: Path, poison: float) -> None:
    """One line; no weight is changed by it, and the checkpoints from before are whole."""
    poisoned: dict[str, bytes] = {}

    def after_step(report: StepReport) -> None:
        if report.state.step == 5:
            with torch.no_grad():
                trainer.model.blocks[0].feedforward.down.weight.fill_(poison)
            poisoned.update(weights_of(trainer))

    trainer = make_trainer(tmp_path, checkpoint_steps=4, after_step=after_step)
    with pytest.raises(UserError, match=r"the loss became .* at step 6; lower train.lr \(now 0.01\)") as error:
        trainer.train(StepProgress(STEPS))
    assert "\n" not in str(error.value)
    assert weights_of(trainer) == poisoned
    assert [path.name for path in checkpoints.list_checkpoints(tmp_path / "checkpoints")] == ["step-4"]
    assert checkpoints.damage(tmp_path / "checkpoints" / "step-4") is None
    assert [row["step"] for row in steps_of(tmp_path)] == [1, 2, 3, 4, 5]


def test_checkpoints_come_by_steps_and_the_newest_are_kept(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def look(report: StepReport) -> None:
        trainer.writer.wait()
        seen.append([path.name for path in checkpoints.list_checkpoints(tmp_path / "checkpoints")])

    trainer = make_trainer(tmp_path, checkpoint_steps=2, keep_checkpoints=2, after_step=look)
    trainer.train(StepProgress(7))
    assert seen == [
        [],
        [],
        ["step-2"],
        ["step-2"],
        ["step-4", "step-2"],
        ["step-4", "step-2"],
        ["step-6", "step-4"],
    ]
    kept = [path.name for path in checkpoints.list_checkpoints(tmp_path / "checkpoints")]
    assert kept == ["step-7", "step-6"]


class _Clock:
    """Is moved by hand; a reading takes a microsecond."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now


def test_checkpoints_come_by_the_clock(
    make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = _Clock()
    monkeypatch.setattr(time, "monotonic", clock)

    def pass_time(report: StepReport) -> None:
        trainer.writer.wait()  # or it would seem to take these seconds
        clock.now += 4.0

    trainer = make_trainer(tmp_path, checkpoint_seconds=10, keep_checkpoints=99, after_step=pass_time)
    trainer.train(StepProgress(STEPS))
    kept = [path.name for path in checkpoints.list_checkpoints(tmp_path / "checkpoints")]
    assert kept == ["step-12", "step-9", "step-6", "step-3"]


def test_a_time_budget_is_kept_and_ends_annealed(
    make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = _Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    began = clock.now

    def pass_time(report: StepReport) -> None:
        clock.now += 0.25

    trainer = make_trainer(tmp_path, after_step=pass_time, final_lr=0.0, validations=3)
    trainer.train(TimeProgress(10.001))  # not 40 steps to the last bit
    assert 9.99 < clock.now - began <= 10.001
    rates = [row["lr"] for row in steps_of(tmp_path)]
    assert len(rates) == 40
    assert max(rates) > 0.9e-2
    assert rates[-1] < 0.03e-2
    assert len(trainer.hooks.validated) == 3
