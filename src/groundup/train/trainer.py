"""The training loop: forward, backward, clip, step, log, save."""

import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from torch import nn

from groundup.errors import UserError
from groundup.objective import Objective
from groundup.plan.hardware import Precision
from groundup.recipe import TrainRecipe
from groundup.train import checkpoints
from groundup.train.checkpoints import TrainState
from groundup.train.interrupt import Interrupt
from groundup.train.metrics import MetricsWriter
from groundup.train.progress import Progress
from groundup.train.schedules import share_of_peak
from groundup.train.step import StepResult, TrainStep


class BatchSource(Protocol):
    """Where batches come from: windows (B, T + 1) int64 as a pure function of the step."""

    def windows(self, step: int, rank: int, num_ranks: int) -> npt.NDArray[np.int64]:
        """The batch of one step and rank."""
        ...


class Validation(NamedTuple):
    """The held-out text's mean loss in nats a token, and bits a byte."""

    loss: float
    bits_per_byte: float


class StepReport(NamedTuple):
    """What the progress display is shown after each step."""

    state: TrainState
    fraction: float
    loss: float
    tokens_per_second: float


class Interrupted(Exception):
    """The run was stopped by a signal and saved; `state` says where, `signal` by which."""

    def __init__(self, state: TrainState, signal: int):
        super().__init__(f"stopped at step {state.step}")
        self.state, self.signal = state, signal


class Hooks(Protocol):
    """What the trainer calls out to; it knows nothing of held-out text, sampling or screens."""

    def validate(self, model: nn.Module) -> Validation:
        """Measure the held-out text."""
        ...

    def on_step(self, report: StepReport) -> None:
        """Called after every step."""
        ...

    def on_validation(self, model: nn.Module, state: TrainState, validation: Validation) -> None:
        """Called after every validation."""
        ...


class Trainer:
    """Trains `model` on `batches` until `progress` is over; everything else was arranged before."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        batches: BatchSource,
        settings: TrainRecipe,
        *,
        precision: Precision,
        device: str,
        checkpoint_folder: Path,
        metrics: MetricsWriter,
        hooks: Hooks,
    ):
        assert settings.lr is not None, "the planner fills in the learning rate"
        self.model, self.batches, self.settings = model, batches, settings
        self.take_step = TrainStep(model, objective, settings, precision=precision, device=device)
        self.checkpoint_folder, self.metrics, self.hooks = checkpoint_folder, metrics, hooks
        self.peak_lr = settings.lr
        self.state = TrainState()
        self._start = time.monotonic()

    def resume(self, checkpoint: Path, spent: float = 0.0) -> None:
        """Continue from a checkpoint; `spent` seconds of training count even if their steps were lost."""
        state = checkpoints.restore(checkpoint, self.model, self.take_step.optimizer)
        self.state = replace(state, seconds=max(state.seconds, spent))

    def train(self, progress: Progress) -> TrainState:
        """The loop. Raises Interrupted after saving when a signal came, UserError when the loss is not finite."""
        self._start = time.monotonic() - self.state.seconds
        saving = _SaveSchedule(self.settings)
        validations = self._validations_behind(progress) if self.state.step else 0
        with Interrupt() as interrupt:
            while not progress.finished(self.state.step):
                fraction = progress.fraction(self.state.step)
                self._take_step(fraction)
                if (due := _count(fraction, self.settings.validations)) > validations:
                    validations = due
                    self.validate()
                if interrupt.signal is not None:
                    self.save()
                    raise Interrupted(self.state, interrupt.signal)
                if saving.is_due(self.state.step):
                    saving.note(self.save())
            self.save()
            self.validate()
            if interrupt.signal is not None:
                raise Interrupted(self.state, interrupt.signal)
        return self.state

    def _validations_behind(self, progress: Progress) -> int:
        """How many validations were due up to the last step taken."""
        return _count(progress.fraction(self.state.step - 1), self.settings.validations)

    def validate(self) -> Validation:
        """Measure the held-out text and write a validation row."""
        self.model.eval()
        validation = self.hooks.validate(self.model)
        self.metrics.write(
            step=self.state.step,
            tokens=self.state.tokens,
            seconds=self.state.seconds,
            val_loss=validation.loss,
            val_bits_per_byte=validation.bits_per_byte,
        )
        self.hooks.on_validation(self.model, self.state, validation)
        return validation

    def save(self) -> float:
        """Write a checkpoint; returns the seconds that it took."""
        before = time.monotonic()
        self.state = replace(self.state, seconds=before - self._start)
        checkpoints.save(
            self.checkpoint_folder,
            self.model,
            self.take_step.optimizer,
            self.state,
            self.settings.keep_checkpoints,
        )
        return time.monotonic() - before

    def _take_step(self, fraction: float) -> None:
        """One optimizer step and its row of metrics."""
        before = time.monotonic()
        settings = self.settings
        lr = self.peak_lr * share_of_peak(settings.schedule, fraction, settings.warmup, settings.final_lr)
        windows = self.batches.windows(self.state.step, 0, 1)
        result = self.take_step(windows, lr)
        self._refuse_unusable(result)
        now = time.monotonic()
        tokens = result.num_targets
        self.state = TrainState(self.state.step + 1, self.state.tokens + tokens, now - self._start)
        report = StepReport(self.state, fraction, result.loss, tokens / (now - before))
        self.metrics.write(
            step=self.state.step,
            tokens=self.state.tokens,
            seconds=self.state.seconds,
            loss=result.loss,
            lr=lr,
            grad_norm=result.grad_norm,
            tokens_per_second=report.tokens_per_second,
        )
        self.hooks.on_step(report)

    def _refuse_unusable(self, result: StepResult) -> None:
        if result.usable:
            return
        raise UserError(
            f"the loss became {result.loss} (gradient norm {result.grad_norm}) at step {self.state.step + 1}; "
            f"lower train.lr (now {self.peak_lr:g}) or train.clip and start anew; checkpoints before this step are kept"
        )


class _SaveSchedule:
    """Save every `checkpoint_steps`, or by the clock but so rarely that saving costs at most 2 % of the time."""

    def __init__(self, settings: TrainRecipe):
        self._steps, self._seconds = settings.checkpoint_steps, settings.checkpoint_seconds
        self._last = time.monotonic()
        self._cost = 0.0

    def is_due(self, step: int) -> bool:
        if self._steps is not None:
            return step % self._steps == 0
        return time.monotonic() - self._last >= max(self._seconds, 50 * self._cost)

    def note(self, seconds: float) -> None:
        self._last, self._cost = time.monotonic(), seconds


def _count(fraction: float, validations: int) -> int:
    """How many of the evenly spaced validations lie behind `fraction`, without the one after the last step."""
    return min(int(fraction * validations), validations - 1)
