"""A stage's run from its recipe to its model: made, continued after an interruption, and finished."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from groundup.clock import Clock
from groundup.data.hub import PREFIX
from groundup.errors import UserError
from groundup.parallel.processes import Processes
from groundup.pipeline.build import undone_if_refused
from groundup.pipeline.display import Display
from groundup.pipeline.tuning.job import TuneJob
from groundup.plan.hardware import Precision
from groundup.recipe import Recipe
from groundup.recipe_stages import RolloutRecipe, TuneRecipe
from groundup.run import Run
from groundup.studio.report import write_report
from groundup.train.allocator import keep_freed_memory
from groundup.train.device import choose_device, set_threads
from groundup.train.machine import has_bf16
from groundup.train.optimizers import find_optimizer

CarryOn = Callable[[TuneJob, Clock], dict[str, Any]]
# What is learnt from chances that were computed before must find the same ones again.
_EXACT = {"ppo", "grpo"}


def tune(recipe: Recipe, folder: Path, display: Display, started: float | None = None) -> dict[str, Any]:
    """Take the recipe's stage through in a new run's folder; the outcome.

    Raises UserError for what a user can mend, and train.trainer.Interrupted after a signal, once all is saved.
    """
    clock = Clock(started)
    with undone_if_refused(prepare(recipe, folder)) as run:
        return _carry_on(run, clock, display)


def prepare(recipe: Recipe, folder: Path) -> Run:
    """A run's folder with the recipe of a stage that is still to be begun."""
    check(recipe)
    return Run.create(folder, with_whole_paths(recipe))


def resume_tuning(run: Run, display: Display, started: float | None = None) -> dict[str, Any]:
    """Continue an interrupted run from its last intact checkpoint, or from as far as it had come."""
    if run.finished:
        display.say(f"{run.folder} is finished; there is nothing to resume")
        return run.read_json(run.outcome_file)
    return _carry_on(run, Clock(started), display)


def check(recipe: Recipe) -> None:
    """Refuse what could never be done, before anything is made."""
    section: TuneRecipe = getattr(recipe, recipe.stage)
    find_optimizer(section.optimizer)
    if section.model is None:
        raise UserError(f"{recipe.stage} has no model to start from; name a run or a model folder")
    if not section.data:
        raise UserError(f"{recipe.stage} has no data; name files, such as data.jsonl, or demo:NAME")
    if isinstance(section, RolloutRecipe) and section.reward is None:
        raise UserError(f"{recipe.stage} has nobody to judge; give --reward MODEL or --reward FILE.py")


def _carry_on(run: Run, clock: Clock, display: Display) -> dict[str, Any]:
    with run.locked():
        return work(run, clock, display)


def work(run: Run, clock: Clock, display: Display, processes: Processes | None = None) -> dict[str, Any]:
    """Take a run that is locked from wherever it stands to its end, this process or many together; the outcome."""
    recipe = run.recipe
    keep_freed_memory()
    device = choose_device(recipe.train.device)
    set_threads(recipe.train.threads, processes.local_world_size if processes else 1)
    job = TuneJob(run, recipe, display, device, _precision(recipe, device), processes)
    if job.is_first:
        display.log = run.log
        display.say(f"run {run.folder}", style="bold")
    stage: CarryOn = import_module(f"groundup.pipeline.tuning.{recipe.stage}").carry_on
    names = {"stage": recipe.stage, "run": str(run.folder), "model": str(run.model)}
    outcome = names | stage(job, clock) | {"total_seconds": clock.elapsed()}
    if job.is_first:
        run.save_outcome(outcome)
        display.say(f"model   {run.model}")
        display.say(f"report  {write_report(run)}")
    return outcome


def _precision(recipe: Recipe, device: str) -> Precision:
    if recipe.train.precision != "auto":
        return recipe.train.precision
    return "bf16" if recipe.stage not in _EXACT and has_bf16(device) else "fp32"


def with_whole_paths(recipe: Recipe) -> Recipe:
    """The recipe with paths of its stages that lead to the same place from wherever the run is continued."""
    recipe = recipe.model_copy(deep=True)
    for stage in recipe.stages or [recipe.stage]:
        section = getattr(recipe, stage, None)
        if isinstance(section, TuneRecipe):
            _make_whole(section)
    return recipe


def _make_whole(section: TuneRecipe) -> None:
    if section.model is not None:
        section.model = _whole(section.model)
    if section.template is not None:
        section.template = _whole(section.template)
    section.data = [_whole(source) for source in section.data]
    section.validation = [_whole(source) for source in section.validation]
    if isinstance(section, RolloutRecipe) and section.reward is not None:
        path, colon, function = section.reward.partition(".py:")
        section.reward = _whole(f"{path}.py") + f":{function}" if colon else _whole(section.reward)


def _whole(source: str) -> str:
    """The absolute path of what is one: a file, a folder, a pattern, or hf: and a folder."""
    prefix = PREFIX if source.startswith(PREFIX) else ""
    path = Path(source.removeprefix(prefix))
    is_pattern = not prefix and any(character in path.name for character in "*?[")
    if not path.exists() and not (is_pattern and path.parent.is_dir()):
        return source
    return prefix + str(path.parent.resolve() / path.name if is_pattern else path.resolve())
