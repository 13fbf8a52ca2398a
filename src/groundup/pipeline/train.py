"""The training stage of a run: model, trainer and progress, new or from the last intact checkpoint."""

from contextlib import ExitStack
from dataclasses import dataclass

from groundup.data import Batches
from groundup.model.decoder import Decoder
from groundup.model.registry import build as build_model
from groundup.objective import OBJECTIVES
from groundup.pipeline.display import Display
from groundup.pipeline.hooks import RunHooks
from groundup.pipeline.prepare import Tokens
from groundup.plan.choose import Plan
from groundup.plan.hardware import Hardware
from groundup.recipe import Recipe
from groundup.run import Run, read_rows, truncate_rows
from groundup.seeds import derive
from groundup.shape import family
from groundup.tokenizer import Tokenizer
from groundup.train import checkpoints
from groundup.train.checkpoints import TrainState
from groundup.train.device import set_threads
from groundup.train.metrics import MetricsWriter
from groundup.train.progress import Progress, StepProgress, TimeProgress
from groundup.train.trainer import Trainer


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
    by_clock: bool


def train(job: Job) -> tuple[Decoder, TrainState]:
    """Train until the budget is used; the model and where it stands.

    Raises train.trainer.Interrupted after a signal, when the state is saved.
    """
    recipe, run = job.recipe, job.run
    set_threads(job.hardware.threads)
    model = build_model(job.plan.shape, derive(recipe.seed, "weights"), job.hardware.device)
    checkpoint = checkpoints.newest_intact(run.checkpoints, job.display.warn)
    spent = max((row["seconds"] for row in read_rows(run.metrics_file)), default=0.0)
    with ExitStack() as stack:
        step = checkpoints.read_state(checkpoint).step if checkpoint else 0
        truncate_rows(run.metrics_file, step)
        truncate_rows(run.samples_file, step)
        metrics = stack.enter_context(MetricsWriter(run.metrics_file))
        samples = stack.enter_context(MetricsWriter(run.samples_file))
        bar = stack.enter_context(job.display.training())
        hooks = RunHooks(
            recipe=recipe,
            plan=job.plan,
            hardware=job.hardware,
            tokenizer=job.tokenizer,
            held_out=job.tokens.held_out,
            samples=samples,
            display=job.display,
            bar=bar,
        )
        trainer = Trainer(
            model,
            OBJECTIVES[family(job.plan.shape.family).objective],
            Batches(job.tokens.train, derive(recipe.seed, "batches"), job.plan.shape.context, job.plan.batch_size),
            recipe.train,
            precision=job.plan.precision,
            device=job.hardware.device,
            checkpoint_folder=run.checkpoints,
            metrics=metrics,
            hooks=hooks,
        )
        if checkpoint:
            trainer.resume(checkpoint, spent)
            job.display.say(f"continuing after step {trainer.state.step:,} from {checkpoint.name}")
        return model, trainer.train(_progress(job, spent))


def _progress(job: Job, spent: float) -> Progress:
    """By the clock for time budgets, the time already spent included; else by steps."""
    return TimeProgress(job.plan.train_seconds, spent) if job.by_clock else StepProgress(job.plan.steps)
