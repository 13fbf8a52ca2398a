"""A stage that learns from rows: measured on held-out ones before, on the way, and behind."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
from torch import nn

from groundup.clock import Clock
from groundup.data.turn_rows import TurnRows
from groundup.evaluate.rows import RowsEvaluation, evaluate_rows
from groundup.model.decoder import Decoder
from groundup.objective import Objective
from groundup.objective.statistics import Statistics
from groundup.pipeline.display import TrainingBar
from groundup.pipeline.held_out_hooks import HeldOutHooks
from groundup.pipeline.tuning.examples import check_unchanged
from groundup.pipeline.tuning.job import TuneJob
from groundup.pipeline.tuning.training import MOST_VALIDATED, length_of, train
from groundup.train.checkpoints import TrainState
from groundup.train.peak_memory import peak_bytes


@dataclass(frozen=True)
class Lesson:
    """What is learnt, and from what.

    `arrange` makes of the stage's decoder what is trained, `model`, and freezes what shall stay; it is called once
    more where that is laid out over devices. `asking` is the objective for held-out rows; `unit` is what a target
    is called on the screen.
    """

    model: nn.Module
    arrange: Callable[[Decoder], nn.Module]
    objective: Objective
    asking: Objective
    rows: TurnRows
    held_out: TurnRows
    unit: str
    statistics: Statistics | None = None


def learn(job: TuneJob, lesson: Lesson, clock: Clock) -> dict[str, Any]:
    """Train to the end of the section's budget or epochs; the figures of the outcome, of held-out rows too.

    UserError for a resumed run whose data has changed.
    """
    rows = lesson.rows
    check_unchanged(job, rows.fingerprint, lesson.held_out.fingerprint)
    before = _evaluate(job, lesson)
    clock.lap("evaluate")
    parameters = sum(parameter.numel() for parameter in lesson.model.parameters())
    settings, devices = job.train_recipe(rows.num_rows), None
    if job.processes is not None:
        from groundup.pipeline.tuning.devices import lay_out_job, take_trained  # a second, which one is spared

        devices = lay_out_job(job, lesson.model, lesson.objective, settings, lesson.arrange)

    def hooks_of(bar: TrainingBar) -> HeldOutHooks:
        return HeldOutHooks(
            lesson.asking,
            lesson.held_out.sample(MOST_VALIDATED),
            device=job.device,
            precision=job.precision,
            display=job.display,
            bar=bar,
            unit=lesson.unit,
            devices=devices,
        )

    state = train(
        job,
        lesson.model if devices is None else devices.trained,
        lesson.objective,
        rows,
        settings,
        length_of(job, rows.num_rows, rows.num_tokens / rows.num_rows, parameters),
        hooks_of,
        statistics=lesson.statistics,
        devices=devices,
    )
    if devices is not None:
        take_trained(job, lesson.model, state)
    clock.lap("train")
    after = _evaluate(job, lesson)
    clock.lap("evaluate")
    return outcome_of(job, lesson.model, state) | {
        "rows": rows.num_rows,
        "held_out_rows": lesson.held_out.num_rows,
        "skipped": {str(reason): count for reason, count in rows.skipped.items()},
        "cut_off": rows.num_cut,
        "epochs": state.windows / rows.num_rows,
        "loss_before": before.loss,
        "loss": after.loss,
        "accuracy_before": before.accuracy,
        "accuracy": after.accuracy,
    }


def outcome_of(job: TuneJob, model: nn.Module, state: TrainState) -> dict[str, Any]:
    """What every stage's outcome has: what it started from, how much of it learnt, how long, the memory."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return {
        "start": str(job.start.folder),
        "family": job.start.model.shape.family,
        "parameters": sum(size for size, _ in sizes),
        "trained_parameters": sum(size for size, is_trained in sizes if is_trained),
        "steps": state.step,
        "stopped_early": state.stopped_early,
        "targets": state.tokens,
        "lr": job.lr,
        "train_seconds": state.seconds,
        "peak_bytes": peak_bytes(job.device),
        "load_average": psutil.getloadavg()[0],
    }


def _evaluate(job: TuneJob, lesson: Lesson) -> RowsEvaluation:
    return evaluate_rows(
        lesson.model, lesson.asking, lesson.held_out.in_order, device=job.device, precision=job.precision
    )
