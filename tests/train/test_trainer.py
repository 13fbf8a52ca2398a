import math
import os
import signal
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import Optimizer

from groundup.data import Shards
from groundup.errors import UserError
from groundup.objective import OBJECTIVES
from groundup.run import read_rows, truncate_rows
from groundup.train import checkpoints
from groundup.train.progress import StepProgress, TimeProgress
from groundup.train.schedules import share_of_peak
from groundup.train.trainer import Interrupted, StepReport, Trainer

from .conftest import BATCH, CONTEXT, NOISE, VOCABULARY, MakeTrainer

STEPS = 12
_TIMES = {"seconds", "tokens_per_second"}


def _rows(folder: Path) -> list[dict[str, Any]]:
    """The metrics, without what differs from one run to the next."""
    rows = read_rows(folder / "metrics.jsonl")
    return [{name: value for name, value in row.items() if name not in _TIMES} for row in rows]


def _step_rows(folder: Path) -> list[dict[str, Any]]:
    return [row for row in _rows(folder) if "loss" in row]


def _weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def _same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    """Bit for bit, NaN included."""
    return left.keys() == right.keys() and all(
        value.numpy().tobytes() == right[name].numpy().tobytes() for name, value in left.items()
    )


# --- learning ---


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_loss_falls_from_a_guess_below_the_unigram_entropy(
    make_trainer: MakeTrainer, shards: Shards, tmp_path: Path, precision: str
) -> None:
    """Only a model that looks at the token before can do that; none can do better than the noise allows."""
    counts = np.bincount(shards.read(0, shards.num_tokens), minlength=VOCABULARY) / shards.num_tokens
    unigram = -float((counts * np.log(counts)).sum())
    other = NOISE / VOCABULARY
    hit = 1 - NOISE + other
    floor = -hit * math.log(hit) - (VOCABULARY - 1) * other * math.log(other)
    trainer = make_trainer(tmp_path, precision=precision)
    trainer.train(StepProgress(150))
    losses = [row["loss"] for row in _step_rows(tmp_path)]
    assert losses[0] == pytest.approx(math.log(VOCABULARY), abs=0.1)
    assert floor - 0.15 < np.mean(losses[-20:]) < 0.5 * unigram


def test_the_same_seed_gives_the_same_run(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_trainer(tmp_path / name, seed=seed).train(StepProgress(5))
    first, again, other = (_rows(tmp_path / name) for name in "abc")
    assert first == again != other


def test_rows_say_what_was_done(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    settings = {"schedule": "cosine", "warmup": 0.3, "final_lr": 0.1, "clip": 0.5}
    trainer = make_trainer(tmp_path, **settings)
    seen: list[tuple[float, float]] = []

    def note(optimizer: Optimizer, *_: object) -> None:
        gradients = [weight.grad for group in optimizer.param_groups for weight in group["params"]]
        norm = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients))
        seen.append((optimizer.param_groups[0]["lr"], norm))

    trainer.optimizer.register_step_pre_hook(note)
    state = trainer.train(StepProgress(STEPS))
    rows = list(read_rows(tmp_path / "metrics.jsonl"))
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, STEPS + 1))
    assert [row["tokens"] for row in steps] == [step * BATCH * CONTEXT for step in range(1, STEPS + 1)]
    assert (state.step, state.tokens) == (STEPS, STEPS * BATCH * CONTEXT)
    assert all(earlier["seconds"] < later["seconds"] for earlier, later in pairwise(steps))
    for report, row, (lr, norm) in zip(trainer.hooks.reports, steps, seen, strict=True):
        assert row["lr"] == lr == 1e-2 * share_of_peak("cosine", report.fraction, 0.3, 0.1)
        assert norm == pytest.approx(min(row["grad_norm"], 0.5), rel=1e-4)
    assert max(row["grad_norm"] for row in steps) > 0.5  # something was clipped
    assert [report.state.step for report in trainer.hooks.reports] == list(range(1, STEPS + 1))


def test_the_held_out_text_is_measured_as_often_as_asked(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, validations=4)
    trainer.train(StepProgress(STEPS))
    rows = [row for row in _rows(tmp_path) if "val_loss" in row]
    assert [row["step"] for row in rows] == trainer.hooks.validated
    assert len(rows) == 4
    assert rows[-1]["step"] == STEPS
    assert rows[-1]["val_bits_per_byte"] == pytest.approx(rows[-1]["val_loss"] / math.log(2))
    gaps = np.diff([0, *trainer.hooks.validated])
    assert gaps.max() - gaps.min() <= 2


@pytest.mark.xfail(
    strict=True,
    reason="bug: StepProgress.fraction(0) is 0, the beginning of the step and not its middle as Progress says, "
    "so that the first step has learning rate 0 and is wasted",
)
def test_the_first_step_learns(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    before = _weights(trainer)
    trainer.train(StepProgress(1))
    assert not _same(before, _weights(trainer))


# --- micro-batches ---


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 4, 9, None])
def test_micro_batches_add_up_to_the_batch(
    make_trainer: MakeTrainer, tmp_path: Path, micro_batch: int | None
) -> None:
    """Loss and gradient of the whole batch, taken at once; 3 of 4 leaves a smaller last micro-batch."""
    trainer = make_trainer(tmp_path, micro_batch=micro_batch)
    with torch.no_grad():  # away from the start, where most gradients are zero
        generator = torch.Generator().manual_seed(0)
        for weight in trainer.model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)
    windows = trainer.batches.windows(0, 0, 1)
    expected = OBJECTIVES["causal"].loss(trainer.model, OBJECTIVES["causal"].collate(windows)).mean
    names = [name for name, _ in trainer.model.named_parameters()]
    gradients = dict(zip(names, torch.autograd.grad(expected, trainer.model.parameters()), strict=True))
    assert trainer._accumulate(windows) == pytest.approx(expected.item(), rel=1e-6)
    for name, weight in trainer.model.named_parameters():
        torch.testing.assert_close(weight.grad, gradients[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_a_run_in_micro_batches_is_the_same_run(
    make_trainer: MakeTrainer, tmp_path: Path, micro_batch: int
) -> None:
    make_trainer(tmp_path / "whole").train(StepProgress(STEPS))
    make_trainer(tmp_path / "parts", micro_batch=micro_batch).train(StepProgress(STEPS))
    for whole, part in zip(_step_rows(tmp_path / "whole"), _step_rows(tmp_path / "parts"), strict=True):
        assert (whole["step"], whole["tokens"], whole["lr"]) == (part["step"], part["tokens"], part["lr"])
        assert part["loss"] == pytest.approx(whole["loss"], rel=1e-3)
        assert part["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-2)


# --- stopping and going on ---


def _interrupt_at(step: int, number: int = signal.SIGINT) -> Any:
    def interrupt(report: StepReport) -> None:
        if report.state.step == step:
            os.kill(os.getpid(), number)

    return interrupt


def _assert_same_end(folder: Path, other: Path) -> None:
    ends = [folder / "checkpoints" / f"step-{STEPS}" for folder in (folder, other)]
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (ends[0] / name).read_bytes() == (ends[1] / name).read_bytes(), name
    assert _step_rows(folder) == _step_rows(other)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stopped_at", [1, 5, 11])
def test_a_stopped_run_goes_on_bit_for_bit(
    make_trainer: MakeTrainer, tmp_path: Path, stopped_at: int, precision: str
) -> None:
    """Weights, the optimizer's state and the logged losses of one run and of one in two parts."""
    make_trainer(tmp_path / "whole", precision=precision).train(StepProgress(STEPS))
    parts = tmp_path / "parts"
    first = make_trainer(parts, precision=precision, after_step=_interrupt_at(stopped_at))
    with pytest.raises(Interrupted):
        first.train(StepProgress(STEPS))
    second = make_trainer(parts, precision=precision, seed=99)  # a model that shares nothing with the first
    checkpoint = checkpoints.newest_intact(parts / "checkpoints", pytest.fail)
    assert checkpoint is not None
    second.resume(checkpoint)
    assert second.state.step == stopped_at
    assert second.state.seconds > 0
    second.train(StepProgress(STEPS))
    _assert_same_end(tmp_path / "whole", parts)


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


@pytest.mark.xfail(
    strict=True,
    reason="bug: train() counts the validations behind the coming step, so that one which is due right after it "
    "is left out (here when stopped at step 3, 6 or 9); count those behind the last step",
)
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
    assert checkpoints.read_state(saved) == stopped.value.state
    assert _step_rows(tmp_path)[-1]["step"] == 4


@pytest.mark.xfail(
    strict=True,
    reason="bug: the last validation comes before the last checkpoint and outside of Interrupt, so that Ctrl-C "
    "during it loses all steps since the checkpoint before; save first, or validate inside",
)
def test_ctrl_c_while_the_end_is_measured_loses_nothing(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    measure = trainer.hooks.validate

    def interrupted(model: torch.nn.Module) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return measure(model)

    trainer.hooks.validate = interrupted
    with suppress(Interrupted, KeyboardInterrupt):
        trainer.train(StepProgress(STEPS))
    assert checkpoints.newest_intact(tmp_path / "checkpoints", pytest.fail) is not None


@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e38])
def test_a_loss_that_is_not_finite_ends_the_run(make_trainer: MakeTrainer, tmp_path: Path, poison: float) -> None:
    """One line; no weight is changed by it, and the checkpoints from before are whole."""
    poisoned: dict[str, torch.Tensor] = {}

    def after_step(report: StepReport) -> None:
        if report.state.step == 5:
            with torch.no_grad():
                trainer.model.blocks[0].feedforward.down.weight.fill_(poison)
            poisoned.update(_weights(trainer))

    trainer = make_trainer(tmp_path, checkpoint_steps=4, after_step=after_step)
    with pytest.raises(UserError, match=r"the loss became .* at step 6; lower train.lr \(now 0.01\)") as error:
        trainer.train(StepProgress(STEPS))
    assert "\n" not in str(error.value)
    assert _same(_weights(trainer), poisoned)
    assert [path.name for path in checkpoints.list_checkpoints(tmp_path / "checkpoints")] == ["step-4"]
    assert checkpoints.damage(tmp_path / "checkpoints" / "step-4") is None
    assert [row["step"] for row in _step_rows(tmp_path)] == [1, 2, 3, 4, 5]


# --- when to save, and the clock ---


def test_checkpoints_come_by_steps_and_the_newest_are_kept(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def look(report: StepReport) -> None:
        seen.append([path.name for path in checkpoints.list_checkpoints(tmp_path / "checkpoints")])

    make_trainer(tmp_path, checkpoint_steps=2, keep_checkpoints=2, after_step=look).train(StepProgress(7))
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
    trainer.train(TimeProgress(10.0))
    assert 9.5 < clock.now - began <= 10.001
    rates = [row["lr"] for row in _step_rows(tmp_path)]
    assert len(rates) in {39, 40}
    assert max(rates) > 0.9e-2
    assert rates[-1] < 0.03e-2
    assert len(trainer.hooks.validated) == 3
