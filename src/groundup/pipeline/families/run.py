"""A run of a family that the planner does not search: prepare, plan by a measured step, train, and finish."""

from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from groundup.clock import Clock
from groundup.errors import UserError
from groundup.model.base import Model, ReadsVectors
from groundup.model.registry import assemble_any
from groundup.pipeline.calibration import calibrated
from groundup.pipeline.continuing import where_it_stands
from groundup.pipeline.display import Display
from groundup.pipeline.families.finish import finish
from groundup.pipeline.families.job import FamilyJob, make_model, make_objective
from groundup.pipeline.families.ledger import ledger_of
from groundup.pipeline.families.rows import MOST_VALIDATED, Rows, is_prepared, open_rows, prepare_rows
from groundup.pipeline.families.vectors import learn_vectors
from groundup.pipeline.held_out_hooks import HeldOutHooks
from groundup.pipeline.numbers import bytes_text, human, seconds_text
from groundup.pipeline.screens import budget_text, say_kept
from groundup.plan.budget import Budget, parse_budget
from groundup.plan.given import DEFAULT_BATCH, GivenPlan, given_plan, given_shape
from groundup.plan.hardware import Hardware, Precision
from groundup.recipe import Recipe
from groundup.run import Run
from groundup.seeds import derive
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer
from groundup.train.allocator import keep_freed_memory
from groundup.train.checkpoints import TrainState
from groundup.train.device import set_threads
from groundup.train.machine import measure
from groundup.train.metrics import MetricsWriter
from groundup.train.peak_memory import peak_bytes
from groundup.train.progress import Progress, StepProgress, TimeProgress
from groundup.train.schedules import steps_with_warmup
from groundup.train.step import TrainStep
from groundup.train.timing import repeat
from groundup.train.trainer import Trainer

# What a time budget keeps back for the evaluation and the files at the end.
_FINISH_SECONDS, _LEAST_SECONDS = 4.0, 3.0
# An image has no tokens; its pixels are bytes.
_PIXEL_VALUES = 256


def carry_on(run: Run, clock: Clock, display: Display) -> dict[str, Any]:
    """Take a run from wherever it stands to its end; the outcome.

    UserError for what a user can mend, train.trainer.Interrupted after a signal, when the state is saved.
    """
    with run.locked():
        display.log = run.log
        display.say(f"run {run.folder}", style="bold")
        if not run.plan_file.is_file():
            _prepare(run, run.recipe, clock, display)
        elif not is_prepared(run):
            prepare_rows(run.recipe, run, display)
        job = load_job(run, display)
        model, state = _train(job)
        return finish(job, model, state, clock)


def load_job(run: Run, display: Display) -> FamilyJob:
    """A prepared run; pairs and images are read from their sources again."""
    keep_freed_memory()
    written, recipe = run.read_json(run.plan_file), run.recipe
    plan = GivenPlan.from_json(written)
    tokenizer = Tokenizer.load(run.tokenizer) if written["has_tokenizer"] else None
    rows = open_rows(recipe, run, plan.shape, tokenizer)
    hardware = Hardware(**written["hardware"])
    return FamilyJob(run, recipe, plan, hardware, tokenizer, rows, display, written["budget"]["kind"])


def _prepare(run: Run, recipe: Recipe, clock: Clock, display: Display) -> None:
    """Then the folder holds tokenizer, data, the resolved recipe and, last, plan.json."""
    budget = parse_budget(recipe.budget)
    assemble_any(given_shape(recipe, recipe.tokenizer.vocabulary_size or _PIXEL_VALUES))  # or refuse it at once
    clock.lap("start")
    hardware = calibrated(measure(recipe.train), recipe.train)
    clock.lap("measure")
    tokenizer, corpus = prepare_rows(recipe, run, display)
    shape = given_shape(recipe, tokenizer.vocabulary_size if tokenizer else _PIXEL_VALUES)
    if isinstance(reader := assemble_any(shape), ReadsVectors) and not shape.options.get("vectors"):
        learn_vectors(recipe, run, reader.vector_width, display)
        shape = given_shape(recipe, shape.vocabulary_size)
    rows = open_rows(recipe, run, shape, tokenizer)
    clock.lap("read")
    precision = hardware.precision if recipe.train.precision == "auto" else recipe.train.precision
    set_threads(hardware.threads)
    model = make_model(recipe, run, shape, tokenizer, hardware.device)
    seconds = _step_seconds(recipe, model, shape, tokenizer, rows, precision, hardware.device)
    clock.lap("plan")
    plan = given_plan(
        recipe,
        _left_for_training(budget, clock),
        shape,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        precision=precision,
        row_tokens=rows.row_tokens,
        step_seconds=seconds,
        step_peak_bytes=peak_bytes(hardware.device),
    )
    run.save_recipe(plan.resolve(recipe))
    run.save_plan(
        plan.as_json()
        | {
            "budget": asdict(budget) | {"text": recipe.budget},
            "hardware": asdict(hardware),
            "corpus": corpus | {"rows": rows.num_train, "held_out_rows": len(rows.held_out)},
            "stages": clock.stages,
            "has_tokenizer": tokenizer is not None,
            "ledger": ledger_of(model),
            "epochs": plan.steps * plan.batch_size / rows.num_train,
            "tokens_per_second": plan.tokens / plan.train_seconds,
        }
    )
    _say_plan(plan, rows, budget, display)


def _step_seconds(
    recipe: Recipe, model: Model, shape: Shape, tokenizer: Tokenizer | None, rows: Rows, precision: Precision,
    device: str,
) -> float:  # fmt: skip
    """The median time of a step with real rows; the model is moved hardly at all, and is made anew afterwards."""
    settings = recipe.train.model_copy(update={"compile": "off"})
    objective = make_objective(recipe, shape, tokenizer)
    step = TrainStep(model, objective, settings, precision=precision, device=device)
    windows = rows.train.windows(0, settings.batch_size or DEFAULT_BATCH)

    def take() -> None:
        step(windows, 1e-9)

    return repeat(take, seconds=0.5).median


def _left_for_training(budget: Budget, clock: Clock) -> Budget:
    """A time budget less what is spent and what the end needs; other budgets as they are."""
    if budget.kind != "seconds":
        return budget
    left = budget.amount - _FINISH_SECONDS - clock.elapsed()
    if left < _LEAST_SECONDS:
        raise UserError(
            f"the budget of {budget.amount:g} s cannot be met: preparing took {clock.elapsed():.0f} s; "
            f"give --budget {clock.elapsed() + 2 * _FINISH_SECONDS + 4 * _LEAST_SECONDS:.0f}s or more"
        )
    return Budget("seconds", left)


def _say_plan(plan: GivenPlan, rows: Rows, budget: Budget, display: Display) -> None:
    shape, epochs = plan.shape, plan.steps * plan.batch_size / rows.num_train
    display.table(
        f"Plan for a budget of {budget_text(budget)}",
        [
            (
                "model",
                f"{shape.family}, {human(plan.parameters)} parameters: {shape.num_layers} layers, "
                f"width {shape.width}, context {shape.context}, vocabulary {shape.vocabulary_size:,}",
            ),
            (
                "training",
                f"{plan.steps:,} steps of {plan.batch_size} rows ({epochs:.2f} epochs), "
                f"learning rate {plan.lr:.2g}, {plan.precision}",
            ),
            ("memory", f"{bytes_text(plan.step_peak_bytes)} in the step that was measured"),
            ("time", f"{seconds_text(plan.train_seconds)} of training, by a step that was measured"),
        ],
    )


def _train(job: FamilyJob) -> tuple[Model, TrainState]:
    """The loop, new or from the last intact checkpoint."""
    run, recipe, plan = job.run, job.recipe, job.plan
    set_threads(job.hardware.threads)
    model = make_model(recipe, run, plan.shape, job.tokenizer, job.hardware.device)
    checkpoint, spent, _ = where_it_stands(run, job.display.warn)
    with ExitStack() as stack:
        metrics = stack.enter_context(MetricsWriter(run.metrics_file))
        bar = stack.enter_context(job.display.training())
        trainer = Trainer(
            model,
            job.objective,
            job.rows.train,
            recipe.train,
            precision=plan.precision,
            device=job.hardware.device,
            checkpoint_folder=run.checkpoints,
            metrics=metrics,
            hooks=HeldOutHooks(
                job.asking,
                job.rows.held_out[:MOST_VALIDATED],
                device=job.hardware.device,
                precision=job.plan.precision,
                display=job.display,
                bar=bar,
                unit="targets",
            ),
            seed=derive(recipe.seed, "dropout"),
        )
        if checkpoint:
            trainer.resume(checkpoint, spent)
            job.display.say(f"continuing after step {trainer.state.step:,} from {checkpoint.name}")
        state = trainer.train(_progress(job, spent))
    say_kept(state, job.display)
    return model, state


def _progress(job: FamilyJob, spent: float) -> Progress:
    if job.by_clock:
        return TimeProgress(job.plan.train_seconds, spent)
    train = job.recipe.train
    if job.budget_kind == "steps":
        return StepProgress(job.plan.steps)
    return StepProgress(steps_with_warmup(job.plan.steps, train.batch_warmup, train.batch_warmup_from))
