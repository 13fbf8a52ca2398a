"""The training loop: forward, backward, clip, step, log, save."""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from torch import nn

from groundup.errors import UserError
from groundup.objective import Objective
from groundup.objective.statistics import Statistics
from groundup.plan.hardware import Precision
from groundup.recipe import TrainRecipe
from groundup.train import checkpoints
from groundup.train.agreement import decide, of_first
from groundup.train.averaging import WeightAverage
from groundup.train.checkpoint_writer import CheckpointWriter
from groundup.train.checkpoints import TrainState
from groundup.train.compile import eager
from groundup.train.early_stopping import Best
from groundup.train.interrupt import Interrupt
from groundup.train.metrics import MetricsWriter
from groundup.train.prefetch import BatchSource, Prefetch
from groundup.train.progress import Progress
from groundup.train.schedules import batch_windows, share_of_peak
from groundup.train.step import StepResult, TrainStep
from groundup.train.trained import load_trained

if TYPE_CHECKING:
    from groundup.parallel.many import ManyDevices

# So many windows are read at once, ahead of the steps that they are for; at least those of a step.
_WINDOWS_AHEAD = 256
# torchrun passes on a signal that its processes may have got from elsewhere a moment before.
_ECHO_SECONDS = 1.0


class Validation(NamedTuple):
    """The held-out text's mean loss in nats a target; bits a byte, or the share of right answers, if any."""

    loss: float
    bits_per_byte: float | None = None
    accuracy: float | None = None

    @property
    def figures(self) -> dict[str, float]:
        """Those that there are, as they stand in `metrics.jsonl`."""
        return {f"val_{name}": value for name, value in self._asdict().items() if value is not None}


class StepReport(NamedTuple):
    """What the progress display is shown after each step; `figures` are what the objective tells besides."""

    state: TrainState
    fraction: float
    loss: float
    tokens_per_second: float
    figures: Mapping[str, float] = {}


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

    def on_validation(self, model: nn.Module, state: TrainState, validation: Validation, last: bool) -> None:
        """Called after every validation; `last` is the one at the end of the run."""
        ...


class Trainer:
    """Trains `model` on `batches` until `progress` is over; everything else was arranged before.

    With `devices`, from `lay_out`, it does so together with other processes, which call the same methods. Without
    `prefetch` windows are read when their step is due: those that follow from the weights of that moment.
    """

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
        devices: "ManyDevices | None" = None,
        seed: int = 0,
        prefetch: bool = True,
        statistics: Statistics | None = None,
    ):
        assert settings.lr is not None and settings.batch_size is not None, "the planner fills them in"
        self.model, self.batches, self.settings, self._reads_ahead = model, batches, settings, prefetch
        self.take_step = TrainStep(
            model, objective, settings, precision=precision, device=device, devices=devices, seed=seed
        )
        self.average = WeightAverage(model, settings.ema) if settings.ema is not None else None
        self._checkpoints, self._has_whole_model = checkpoint_folder, devices is None
        self.writer = CheckpointWriter(checkpoint_folder, settings.keep_checkpoints)
        self.metrics, self.hooks, self._statistics = metrics, hooks, statistics
        self.peak_lr, self.batch_size = settings.lr, settings.batch_size
        self._least_batch = devices.grid.layout.least_batch if devices else settings.micro_batch or self.batch_size
        self._echo_seconds = _ECHO_SECONDS if devices else 0.0
        self.state = TrainState()
        self._start = time.monotonic()
        self._saved_step: int | None = None

    def resume(self, checkpoint: Path, spent: float = 0.0) -> None:
        """Continue from a checkpoint; `spent` seconds of training count even if their steps were lost.

        Where the best one is damaged, or gone since newer ones are damaged, the best is looked for from here on.
        """
        state = checkpoints.restore(checkpoint, self.model, self.take_step.optimizer, self.average)
        self.take_step.restored(checkpoints.read_loss_scale(checkpoint))
        self.state = replace(state, seconds=max(state.seconds, spent))
        if state.best.step and of_first(checkpoints.damage(self._checkpoint_of(state.best.step)) is not None):
            self.state = replace(self.state, best=Best())
        self._saved_step = state.step

    def train(self, progress: Progress) -> TrainState:
        """The loop. Raises Interrupted after saving when a signal came, UserError when the loss is not finite.

        With `train.ema` the model has the average as its weights in the end, with `train.patience` what was best;
        many processes, none of which has all of that, leave it in the checkpoint of `kept_step`.
        """
        self._start = time.monotonic() - self.state.seconds
        saving = _SaveSchedule(self.settings, self.writer)
        fraction = progress.fraction(self.state.step - 1) if self.state.step else 0.0
        interrupt = Interrupt(self._echo_seconds)
        with self._reading() as batches, self.writer, interrupt:
            while not progress.finished(self.state.step):
                self._validate_if_due(fraction)
                if self.state.stopped_early:
                    break
                fraction = progress.fraction(self.state.step)
                self._take_step(batches, fraction)
                self.writer.raise_failure()
                signal, save = decide(interrupt.signal, saving.is_due(self.state.step))
                if signal is not None:
                    self.save()
                    self.writer.wait()
                    raise Interrupted(self.state, signal)
                if save:
                    self.save()
                    saving.restart()
            self.save()
            if not self.state.stopped_early:
                self._note_best(self.validate(last=True))
            self.writer.wait()
            signal, _ = decide(interrupt.signal, save=False)
            if signal is not None:
                raise Interrupted(self.state, signal)
        if self.average is not None:
            self.average.adopt()
        if self.state.kept_step != self.state.step and self._has_whole_model:
            best = checkpoints.load_weights(self._checkpoint_of(self.state.kept_step))
            load_trained(self.model, best)
        return self.state

    def _reading(self) -> AbstractContextManager[BatchSource]:
        if not self._reads_ahead:
            return nullcontext(self.batches)
        return Prefetch(self.batches, max(_WINDOWS_AHEAD, self.batch_size))

    def _validate_if_due(self, fraction: float) -> None:
        """Validate after a step at `fraction` of the run, if a validation lies behind it; the last one never does.

        It comes after the step's checkpoint: a run that goes on from there measures again what is cut off with it.
        """
        num_validations = self.settings.validations
        if (due := min(int(fraction * num_validations), num_validations - 1)) > self.state.validations:
            before = time.monotonic()
            validation = self.validate()
            waited = self.state.evaluation_seconds + time.monotonic() - before
            self._note_best(validation)
            stops = self.state.best.stale == self.settings.patience
            self.state = replace(self.state, validations=due, evaluation_seconds=waited, stopped_early=stops)

    def _note_best(self, validation: Validation) -> None:
        """With patience, save the step if it is the best or the last one; as it was before this validation.

        A run that goes on from there validates again, and comes to the same.
        """
        if self.settings.patience is None:
            return
        best = self.state.best.after(self.state.step, of_first(validation.loss))
        if best.step == self.state.step or best.stale == self.settings.patience:
            self.save()
        self.state = replace(self.state, best=best)

    def validate(self, last: bool = False) -> Validation:
        """Measure the held-out text and write a validation row; of the averaged weights, if there are any."""
        self.model.eval()
        with self.average.in_place() if self.average is not None else nullcontext():
            validation = self.hooks.validate(self.model)
            self.metrics.write(
                step=self.state.step,
                tokens=self.state.tokens,
                seconds=self.state.seconds,
                **validation.figures,
            )
            self.hooks.on_validation(self.model, self.state, validation, last)
        return validation

    def _checkpoint_of(self, step: int) -> Path:
        return self._checkpoints / f"step-{step}"

    def save(self) -> None:
        """Copy what a checkpoint holds, and have it written while training goes on; once for each step."""
        if self._saved_step == self.state.step:
            return
        before = time.monotonic()
        self.state = replace(self.state, seconds=before - self._start)
        self.writer.wait()
        self.writer.start(
            checkpoints.snapshot(
                self.model,
                self.take_step.optimizer,
                self.state,
                average=self.average,
                loss_scale=self.take_step.state_dict(),
            )
        )
        self._saved_step = self.state.step
        waited = time.monotonic() - before
        self.state = replace(self.state, checkpoint_seconds=self.state.checkpoint_seconds + waited)

    def _take_step(self, batches: BatchSource, fraction: float) -> None:
        """One optimizer step and its row of metrics."""
        before = time.monotonic()
        state, settings = self.state, self.settings
        count = batch_windows(
            fraction,
            self.batch_size,
            self._least_batch,
            settings.batch_warmup,
            settings.batch_warmup_from,
        )
        share = share_of_peak(settings.schedule, fraction, settings.warmup, settings.final_lr, settings.cooldown)
        windows = batches.windows(state.windows, count)
        waited = time.monotonic() - before
        # Compiling for every size that the batch has while it grows would take longer than it saves.
        growing = count < self.batch_size and count % self._least_batch != 0
        with eager() if growing else nullcontext():
            result = self.take_step(windows, self.peak_lr * share, state.windows)
        self._refuse_unusable(result)
        now = time.monotonic()
        self.state = replace(
            state,
            step=state.step + 1,
            tokens=state.tokens + result.num_targets,
            seconds=now - self._start,
            windows=state.windows + count,
            data_seconds=state.data_seconds + waited,
        )
        if self.average is not None:
            self.average.update(self.state.step)
        figures = self._statistics.take() if self._statistics is not None else {}
        report = StepReport(self.state, fraction, result.loss, result.num_targets / (now - before), figures)
        self.metrics.write(
            step=self.state.step,
            tokens=self.state.tokens,
            seconds=self.state.seconds,
            loss=result.loss,
            lr=self.peak_lr * share,
            grad_norm=result.grad_norm,
            tokens_per_second=report.tokens_per_second,
            **figures,
        )
        self.hooks.on_step(report)

    def _refuse_unusable(self, result: StepResult) -> None:
        if result.usable:
            return
        raise UserError(
            f"the loss became {result.loss} (gradient norm {result.grad_norm}) at step {self.state.step + 1}; "
            f"lower train.lr (now {self.peak_lr:g}) or train.clip and start anew; "
            "checkpoints before this step are kept"
        )


class _SaveSchedule:
    """Save every `checkpoint_steps`, or by the clock but so rarely that writing goes on at most 2 % of the time.

    A write takes part of the processor from the steps beside it, so that they lose less than that.
    """

    def __init__(self, settings: TrainRecipe, writer: CheckpointWriter):
        self._steps, self._seconds = settings.checkpoint_steps, settings.checkpoint_seconds
        self._writer = writer
        self.restart()

    def is_due(self, step: int) -> bool:
        if self._steps is not None:
            return step % self._steps == 0
        if self._writer.is_writing:
            return False
        return time.monotonic() - self._last >= max(self._seconds, 50 * self._writer.seconds)

    def restart(self) -> None:
        self._last = time.monotonic()
