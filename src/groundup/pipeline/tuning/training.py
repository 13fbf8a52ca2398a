"""The trainer on a stage's job: new, or from the last intact checkpoint."""

import math
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from groundup.errors import UserError
from groundup.objective import Objective
from groundup.objective.statistics import Statistics
from groundup.parallel.processes import share
from groundup.pipeline.continuing import where_it_stands
from groundup.pipeline.display import TrainingBar
from groundup.pipeline.tuning.job import TuneJob
from groundup.plan.budget import parse_budget
from groundup.recipe import TrainRecipe
from groundup.recipe_stages import LessonRecipe
from groundup.train.agreement import SharedProgress
from groundup.train.checkpoints import TrainState
from groundup.train.metrics import MetricsWriter
from groundup.train.prefetch import BatchSource
from groundup.train.progress import Progress, StepProgress, TimeProgress
from groundup.train.trainer import Hooks, Trainer

if TYPE_CHECKING:
    from groundup.parallel.many import ManyDevices

HooksOf = Callable[[TrainingBar], Hooks]
# So many held-out examples are measured on the way; all of them at the end.
MOST_VALIDATED = 256


@dataclass(frozen=True)
class Length:
    """How long a stage trains: so many steps, or so many seconds."""

    steps: int
    seconds: float | None = None

    def progress(self, spent: float) -> Progress:
        """To be asked before each step; `spent` seconds are behind it."""
        return StepProgress(self.steps) if self.seconds is None else TimeProgress(self.seconds, spent)


def length_of(job: TuneJob, num_rows: int, row_tokens: float, num_parameters: int) -> Length:
    """By the section's budget, else its epochs; UserError for a budget in money."""
    settings = job.settings
    batch_size = min(settings.batch_size, num_rows)
    if settings.budget is None:
        assert isinstance(settings, LessonRecipe), "stages that go by rounds count these"
        return Length(max(1, math.ceil(settings.epochs * num_rows / batch_size)))
    budget = parse_budget(settings.budget)
    if budget.kind == "seconds":
        return Length(0, budget.amount)
    if budget.kind == "usd":
        raise UserError(f"{job.recipe.stage}.budget={settings.budget}: give time, steps or tokens, not money")
    step_tokens = batch_size * row_tokens
    steps = {
        "steps": budget.amount,
        "tokens": budget.amount / step_tokens,
        "flops": budget.amount / (6 * num_parameters * step_tokens),
    }[budget.kind]
    return Length(max(1, round(steps)))


def train(
    job: TuneJob,
    model: nn.Module,
    objective: Objective,
    batches: BatchSource,
    settings: TrainRecipe,
    length: Length,
    hooks_of: HooksOf,
    *,
    prefetch: bool = True,
    statistics: Statistics | None = None,
    devices: "ManyDevices | None" = None,
) -> TrainState:
    """Train `model` in place until `length` is over; where it stands.

    What the objective adds to `statistics` stands in the steps' rows of metrics. With `devices` the model is this
    process's part, and what was trained is in the run's last checkpoint.
    Without `prefetch` batches are read when they are due: those that follow from the model itself. Raises
    train.trainer.Interrupted after a signal, when the state is saved.
    """
    run = job.run
    save_plan(job, model, settings, length)
    checkpoint, spent = _where_it_stands(job) if devices is None else share(_where_it_stands(job))
    with ExitStack() as stack:
        metrics = stack.enter_context(MetricsWriter(run.metrics_file if job.is_first else Path(os.devnull)))
        bar = stack.enter_context(job.display.training())
        trainer = Trainer(
            model,
            objective,
            batches,
            settings,
            precision=job.precision,
            device=job.device,
            checkpoint_folder=run.checkpoints,
            metrics=metrics,
            hooks=hooks_of(bar),
            seed=job.seed("dropout"),
            prefetch=prefetch,
            statistics=statistics,
            devices=devices,
        )
        if checkpoint:
            trainer.resume(checkpoint, spent)
            job.display.say(f"continuing after step {trainer.state.step:,} from {checkpoint.name}")
        progress = length.progress(spent)
        return trainer.train(progress if devices is None else SharedProgress(progress))


def save_plan(job: TuneJob, model: nn.Module, settings: TrainRecipe, length: Length) -> None:
    """Write plan.json where there is none: from here on the run stays, whatever goes wrong."""
    if job.is_first and not job.run.plan_file.is_file():
        job.run.save_plan(_plan(job, model, settings, length))


def _where_it_stands(job: TuneJob) -> tuple[Path | None, float]:
    return where_it_stands(job.run, job.display.warn)[:2] if job.is_first else (None, 0.0)


def _plan(job: TuneJob, model: nn.Module, settings: TrainRecipe, length: Length) -> dict[str, Any]:
    """What will be done, for `plan.json`."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return {
        "stage": job.recipe.stage,
        "start": str(job.start.folder),
        "parameters": sum(size for size, _ in sizes),
        "trained_parameters": sum(size for size, is_trained in sizes if is_trained),
        "steps": length.steps or None,
        "seconds": length.seconds,
        "batch_size": settings.batch_size,
        "lr": settings.lr,
        "precision": job.precision,
        "device": job.device,
    }
