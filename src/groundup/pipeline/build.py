"""`groundup build`: raw text in, a language model out."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from groundup.clock import Clock
from groundup.data import default_corpus
from groundup.errors import UserError
from groundup.model.decoder import Decoder
from groundup.parallel.processes import Processes
from groundup.pipeline.calibration import calibrated, load_calibration, text_names
from groundup.pipeline.compilation import expected_compilation
from groundup.pipeline.display import Display
from groundup.pipeline.families.run import carry_on
from groundup.pipeline.families.word_vectors import carry_on_words
from groundup.pipeline.finish import finish
from groundup.pipeline.prepare import Text, Tokens, describe, encode_text, make_tokenizer, open_tokens, stage_text
from groundup.pipeline.screens import say_machine, say_outcome, say_plan, say_text
from groundup.pipeline.train import Job, train
from groundup.plan.budget import Budget, parse_budget
from groundup.plan.calibration import Corrections
from groundup.plan.choose import Corpus, Plan, choose, choose_vocabulary, text_limit
from groundup.plan.cluster.layout import Layout
from groundup.plan.compile import Compilation
from groundup.plan.hardware import Hardware
from groundup.plan.loss import SMALL_RUNS
from groundup.plan.parallel import group_sizes, one_device_budget, refuse_unsupported, resolve
from groundup.recipe import Recipe, TrainRecipe
from groundup.run import Run
from groundup.shape import Shape, family
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.pretokenize import resolve_pattern
from groundup.train.allocator import keep_freed_memory
from groundup.train.checkpoints import TrainState
from groundup.train.compile import require_compiler
from groundup.train.device import choose_device
from groundup.train.machine import measure, measure_step_seconds
from groundup.train.optimizers import find_optimizer

# What a time budget keeps back for the last evaluation, the model folder and the report.
_FINISH_SECONDS, _FINISH_SHARE = 3.0, 0.01
_LEAST_TRAINING_SECONDS = 3.0


def build(recipe: Recipe, folder: Path, display: Display, started: float | None = None) -> dict[str, Any]:
    """Take a recipe through the whole job in a new run's folder; returns the outcome.

    `started` (seconds since the epoch) is when the budget's clock began, by default now. Raises UserError for
    what a user can mend, and train.trainer.Interrupted after a signal, when the state is saved.
    """
    clock = Clock(started)
    with undone_if_refused(create_run(recipe, folder)) as run:
        return _carry_on(run, clock, display)


def resume(run: Run, display: Display, started: float | None = None) -> dict[str, Any]:
    """Continue an interrupted run from its last intact checkpoint, or from as far as it had come."""
    if run.finished:
        display.say(f"{run.folder} is finished; there is nothing to resume")
        return run.read_json(run.outcome_file)
    return _carry_on(run, Clock(started), display)


def create_run(recipe: Recipe, folder: Path, devices: int = 1) -> Run:
    """A new run's folder; UserError, and nothing is made, for a recipe that could never be done."""
    check_recipe(recipe, devices)
    recipe = recipe.model_copy(deep=True)
    if not recipe.data.sources and family(recipe.model.family).examples in {"text", "words"}:
        recipe.data.sources = [default_corpus()]
    return Run.create(folder, recipe)


@contextmanager
def undone_if_refused(run: Run) -> Iterator[Run]:
    """Input that is refused before there is a plan leaves nothing of a new run behind."""
    try:
        yield run
    except UserError:
        if not run.plan_file.exists():
            run.discard()
        raise


def _carry_on(run: Run, clock: Clock, display: Display) -> dict[str, Any]:
    traits = family(run.recipe.model.family)
    if not traits.is_decoder:
        return (carry_on_words if traits.examples == "words" else carry_on)(run, clock, display)
    with run.locked():
        prepare(run, clock, display)
        job = load_job(run, display)
        model, state = train(job)
        return finish_training(job, model, state, clock)


def prepare(run: Run, clock: Clock, display: Display, processes: Processes | None = None) -> None:
    """Everything up to the plan, where there is none yet."""
    display.log = run.log
    display.say(f"run {run.folder}", style="bold")
    if run.plan_file.is_file():
        _prepare_again(run, run.recipe, display)
    else:
        _prepare_and_plan(run, run.recipe, clock, display, processes)


def _prepare_and_plan(
    run: Run, recipe: Recipe, clock: Clock, display: Display, processes: Processes | None
) -> None:
    """Then the run's folder holds the resolved recipe, the tokens and plan.json."""
    budget, devices = parse_budget(recipe.budget), processes.world_size if processes else 1
    clock.lap("start")
    hardware = calibrated(measure(recipe.train, processes.local_world_size if processes else 1), recipe.train)
    keep_freed_memory()  # only now, or the buffers of that measurement would be kept
    say_machine(hardware, display)
    clock.lap("measure")
    of_one = one_device_budget(budget, devices)
    recipe.data.limit_bytes = recipe.data.limit_bytes or text_limit(of_one, hardware)
    text = stage_text(recipe, run, display)
    say_text(text, display)
    clock.lap("read")
    recipe.tokenizer.vocabulary_size = choose_vocabulary(recipe, of_one, hardware, text.train_bytes)
    tokenizer = make_tokenizer(recipe, text, run, display)
    corpus = describe(recipe, text, tokenizer)
    clock.lap("tokenizer")
    tokens = encode_text(text, tokenizer, run, display)
    clock.lap("encode")
    plan = _plan(recipe, _left_for_training(budget, clock), hardware, corpus, tokenizer, devices)
    clock.lap("plan")
    # The recipe goes first and plan.json last: its presence means that planning is done.
    run.save_recipe(plan.resolve(recipe))
    run.save_plan(
        plan.as_json()
        | {
            "budget": asdict(budget) | {"text": recipe.budget},
            "hardware": asdict(hardware),
            "corpus": _provenance(text, tokens, corpus),
            "stages": clock.stages,
            "corrections": asdict(_corrections(recipe)),
        }
    )
    say_plan(plan, budget, display)


def check_recipe(recipe: Recipe, devices: int = 1) -> None:
    """Refuse what could never be done on so many devices, before anything is made."""
    check_names(recipe)
    budget = parse_budget(recipe.budget)
    if family(recipe.model.family).examples != "words":  # which learn for so many epochs, whatever the budget
        _refuse_tiny(budget)
    if devices > 1 and not family(recipe.model.family).is_decoder:
        raise UserError(
            f"the family {recipe.model.family} trains on one device; leave out --nproc, or choose a decoder"
        )
    group_sizes(recipe.parallel, devices)
    refuse_unsupported(recipe, devices)


def check_names(recipe: Recipe) -> None:
    """Refuse a family, optimizer, pattern or compiler that does not exist before any time is spent."""
    family(recipe.model.family)
    find_optimizer(recipe.train.optimizer)
    resolve_pattern(recipe.tokenizer.pattern)
    if recipe.train.compile == "on":
        require_compiler(choose_device(recipe.train.device))


def _refuse_tiny(budget: Budget) -> None:
    """Say at once what could never be met, before anything is made."""
    if budget.kind == "usd":
        raise UserError(
            f"a build does not know what this machine costs; `groundup plan --budget '${budget.amount:g}'` turns "
            "money into time, which is a budget"
        )
    if budget.kind == "seconds" and budget.amount < _FINISH_SECONDS + _LEAST_TRAINING_SECONDS:
        raise UserError(
            f"a budget of {budget.amount:g} s cannot be met: writing the model and its report alone takes about "
            f"{_FINISH_SECONDS:g} s; give 30s or more"
        )


def _left_for_training(budget: Budget, clock: Clock) -> Budget:
    """A time budget less what is spent and what the end needs; other budgets as they are."""
    if budget.kind != "seconds":
        return budget
    left = budget.amount * (1 - _FINISH_SHARE) - _FINISH_SECONDS - clock.elapsed()
    if left < _LEAST_TRAINING_SECONDS:
        needed = clock.elapsed() + 2 * _FINISH_SECONDS + 4 * _LEAST_TRAINING_SECONDS
        raise UserError(
            f"the budget of {budget.amount:g} s cannot be met: reading and encoding this text took "
            f"{clock.elapsed():.0f} s; give --budget {needed:.0f}s or more, or --set data.limit_bytes=N"
        )
    return Budget("seconds", left)


def _plan(
    recipe: Recipe, budget: Budget, hardware: Hardware, corpus: Corpus, tokenizer: Tokenizer, devices: int
) -> Plan:
    """The choice, with the steps of the best candidates measured on this machine."""

    def measured(shape: Shape, batch_size: int, settings: TrainRecipe) -> float:
        settings = settings.model_copy(update={"compile": "off"})
        return measure_step_seconds(shape, batch_size, settings, hardware)

    def compilation(plan: Plan) -> Compilation | None:
        return expected_compilation(plan, hardware)

    corrections = _corrections(recipe)
    return choose(
        recipe,
        budget,
        hardware,
        corpus,
        tokenizer.vocabulary_size,
        measured_step_seconds=measured,
        compilation=compilation if devices == 1 or recipe.train.compile == "on" else None,
        law=SMALL_RUNS.scaled(corrections.loss),
        peak_factor=corrections.peak,
        devices=devices,
    )


def _corrections(recipe: Recipe) -> Corrections:
    """What past runs on this machine, and on this text, say of the planner's formulas."""
    known = load_calibration(recipe.train)
    return known.corrections(text_names(recipe.data.sources)) if known else Corrections()


def _provenance(text: Text, tokens: Tokens, corpus: Corpus) -> dict[str, Any]:
    """Where the text came from, and its figures, for plan.json."""
    manifest = text.store.manifest
    return {
        key: manifest[key] for key in ("sources", "documents", "bytes", "truncated", "sha256", "attribution")
    } | {
        "train_bytes": text.train_bytes,
        "train_tokens": tokens.train.num_tokens,
        "held_out_bytes": text.held_out_bytes,
        "held_out_tokens": tokens.held_out.num_tokens,
        "bytes_per_token": corpus.bytes_per_token,
        "compressibility": corpus.compressibility,
    }


def load_job(run: Run, display: Display, processes: Processes | None = None) -> Job:
    """A prepared run as it is trained here: on as many devices as there are now, whatever it was planned for."""
    keep_freed_memory()
    written, recipe = run.read_json(run.plan_file), run.recipe
    tokens = open_tokens(run)
    plan = Plan.from_json(written)
    layout = Layout()
    if processes is None:
        group_sizes(recipe.parallel, 1)
    else:
        share = plan.batch_size // group_sizes(recipe.parallel, processes.world_size).data
        micro_batch = math.gcd(plan.micro_batch, share)
        plan = replace(plan, devices=processes.world_size, micro_batch=micro_batch)
        recipe.train.micro_batch = micro_batch
        layout = resolve(recipe, plan.devices, plan.shape, plan.batch_size, micro_batch)
    return Job(
        run,
        recipe,
        plan,
        Hardware(**written["hardware"]),
        Tokenizer.load(run.tokenizer),
        tokens,
        display,
        budget_kind=written["budget"]["kind"],
        layout=layout,
        processes=processes,
    )


def finish_training(job: Job, model: Decoder, state: TrainState, clock: Clock) -> dict[str, Any]:
    """Evaluate, write the model folder and the report, and say what came of it: the outcome."""
    clock.lap("train")
    # What earlier sessions spent is in the plan and in the training's own count of seconds.
    written = job.run.read_json(job.run.plan_file)
    clock.stages = written["stages"] | {"train": max(clock.stages["train"], state.seconds)}
    outcome = finish(job, model, state, clock)
    say_outcome(outcome, job.run, job.display)
    return outcome


def _prepare_again(run: Run, recipe: Recipe, display: Display) -> None:
    """Make tokenizer and shards again from the sources, if the cache was emptied since the run was planned."""
    if (run.tokenizer / "tokenizer.json").is_file() and (run.shards / "train" / "manifest.json").is_file():
        return
    text = stage_text(recipe, run, display)
    encode_text(text, make_tokenizer(recipe, text, run, display), run, display)
