"""The training stage of a run: model, trainer and progress, new or from the last intact checkpoint."""

import os
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from groundup.data import Batches
from groundup.model.decoder import Decoder
from groundup.model.registry import build as build_model
from groundup.objective import OBJECTIVES, Objective, Setting
from groundup.parallel.processes import Processes, share
from groundup.pipeline.compilation import remember_compilation
from groundup.pipeline.continuing import where_it_stands
from groundup.pipeline.display import Display
from groundup.pipeline.hooks import RunHooks
from groundup.pipeline.numbers import seconds_text
from groundup.pipeline.prepare import Tokens
from groundup.pipeline.screens import say_kept
from groundup.plan.budget import Kind
from groundup.plan.choose import Plan
from groundup.plan.cluster.layout import Layout
from groundup.plan.hardware import Hardware
from groundup.recipe import Recipe
from groundup.run import Run, read_rows, truncate_rows
from groundup.seeds import derive
from groundup.shape import family
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.whole_words import starts_word
from groundup.train import checkpoints
from groundup.train.agreement import SharedProgress
from groundup.train.checkpoints import TrainState
from groundup.train.device import set_threads
from groundup.train.metrics import MetricsWriter
from groundup.train.progress import Progress, StepProgress, TimeProgress
from groundup.train.schedules import steps_with_warmup
from groundup.train.step import lay_out
from groundup.train.trainer import Trainer

if TYPE_CHECKING:
    from groundup.parallel.many import ManyDevices


@dataclass(frozen=True)
class Job:
    """A planned run with everything that training needs."""

    run: Run
    recipe: Recipe
    plan: Plan
    hardware: Hardware
    tokenizer: Tokenizer
    tokens: Tokens
    display: Display
    budget_kind: Kind
    layout: Layout = field(default_factory=Layout)
    processes: Processes | None = None

    @property
    def border(self) -> int | None:
        """The id that attention does not cross; None where it may cross all."""
        return self.tokenizer.end_of_text if self.recipe.data.packing == "documents" else None

    @property
    def setting(self) -> Setting:
        """What the objective needs to know of the run."""
        return Setting(
            seed=derive(self.recipe.seed, "objective"),
            shape=self.plan.shape,
            special=self.tokenizer.special_tokens,
            border=self.border,
            starts_word_V=starts_word(self.tokenizer),
            label_smoothing=self.recipe.train.label_smoothing,
        )

    @property
    def is_first(self) -> bool:
        """Whether this process writes: metrics, samples, the log."""
        return self.processes is None or self.processes.rank == 0

    @property
    def by_clock(self) -> bool:
        """Whether the time is given."""
        return self.budget_kind == "seconds"


def train(job: Job) -> tuple[Decoder, TrainState]:
    """Train until the budget is used; the model and where it stands.

    Raises train.trainer.Interrupted after a signal, when the state is saved.
    """
    set_threads(job.hardware.threads)
    model = build_model(job.plan.shape, derive(job.recipe.seed, "weights"), job.hardware.device)
    return model, _train(job, model, None)


def train_part(job: Job) -> TrainState:
    """The same together with other processes, which have been joined; the model is in a checkpoint."""
    from groundup.parallel.grid import Grid  # a second, which one device is spared

    assert job.processes is not None
    device, seed = job.hardware.device, derive(job.recipe.seed, "weights")
    set_threads(job.recipe.train.threads, job.processes.local_world_size)
    grid = Grid(job.layout, device)
    devices = lay_out(
        job.plan.shape,
        _objective(job),
        job.recipe.train,
        job.recipe.parallel,
        grid,
        precision=job.plan.precision,
        device=device,
        seed=seed,
    )
    return _train(job, devices.model, devices)


def last_model(job: Job, state: TrainState) -> Decoder:
    """The whole model, with the weights that the run keeps, of a checkpoint: their average where there is one."""
    model = build_model(job.plan.shape, derive(job.recipe.seed, "weights"), job.hardware.device)
    model.load_state_dict(checkpoints.load_weights(job.run.checkpoints / f"step-{state.kept_step}"))
    return model


def _train(job: Job, model: Decoder, devices: "ManyDevices | None") -> TrainState:
    """The loop, new or from the last intact checkpoint, with what goes on beside it."""
    recipe, run = job.recipe, job.run
    checkpoint, spent = _where_it_stands(job) if devices is None else share(_where_it_stands(job))
    with ExitStack() as stack:
        metrics = stack.enter_context(MetricsWriter(run.metrics_file if job.is_first else Path(os.devnull)))
        samples = stack.enter_context(MetricsWriter(run.samples_file if job.is_first else Path(os.devnull)))
        bar = stack.enter_context(job.display.training())
        hooks = RunHooks(
            recipe=recipe,
            plan=job.plan,
            hardware=job.hardware,
            tokenizer=job.tokenizer,
            held_out=job.tokens.held_out,
            border=job.border,
            by_clock=job.by_clock,
            samples=samples,
            display=job.display,
            bar=bar,
            devices=devices,
        )
        trainer = Trainer(
            model,
            _objective(job),
            Batches(job.tokens.train, derive(recipe.seed, "batches"), job.plan.shape.context),
            recipe.train,
            precision=job.plan.precision,
            device=job.hardware.device,
            checkpoint_folder=run.checkpoints,
            metrics=metrics,
            hooks=hooks,
            devices=devices,
            seed=derive(recipe.seed, "dropout"),
        )
        if checkpoint:
            trainer.resume(checkpoint, spent)
            job.display.say(f"continuing after step {trainer.state.step:,} from {checkpoint.name}")
        compile_seconds = _compile(job, trainer) if recipe.train.compile == "on" else 0.0
        progress = _progress(job, spent + compile_seconds)
        state = trainer.train(progress if devices is None or not job.by_clock else SharedProgress(progress))
    say_kept(state, job.display)
    if compile_seconds and devices is None:
        rates = [row["tokens_per_second"] for row in read_rows(run.metrics_file) if "tokens_per_second" in row]
        remember_compilation(job.plan, job.hardware, compile_seconds, statistics.median(rates))
    return state


def _where_it_stands(job: Job) -> tuple[Path | None, float]:
    """The last intact checkpoint, behind which the rows are cut off, and the seconds that were spent in all.

    The first of many processes tells the others.
    """
    run = job.run
    if not job.is_first:
        return None, 0.0
    checkpoint, spent, step = where_it_stands(run, job.display.warn)
    truncate_rows(run.samples_file, step - 1)
    return checkpoint, spent


def _compile(job: Job, trainer: Trainer) -> float:
    """Let the model be compiled before the clock of the schedule runs; the seconds that it took."""
    job.display.say(
        f"compiling the model's block: about {seconds_text(job.plan.compile_seconds)}, less the next time", "dim"
    )
    before = time.monotonic()
    failed = trainer.take_step.warm_up(trainer.batches.windows(0, job.plan.batch_size))
    seconds = time.monotonic() - before
    if failed:
        job.display.warn(f"the model could not be compiled and trains without: {failed}")
    else:
        job.display.say(f"compiling the model's block: {seconds_text(seconds)}", "dim")
    return seconds


def _objective(job: Job) -> Objective:
    """What the family learns; within documents where they are packed so."""
    return OBJECTIVES[family(job.plan.shape.family).objective](job.setting)


def _progress(job: Job, spent: float) -> Progress:
    """By the clock for time budgets, the time already spent included; else by steps.

    Where tokens are given and the first batches are smaller, more steps make up for them.
    """
    if job.by_clock:
        return TimeProgress(job.plan.train_seconds, spent)
    if job.budget_kind == "steps":
        return StepProgress(job.plan.steps)
    train = job.recipe.train
    return StepProgress(steps_with_warmup(job.plan.steps, train.batch_warmup, train.batch_warmup_from))
