"""A stage that many processes do together, started by torchrun: each reads all, and trains its part."""

from pathlib import Path
from typing import Any

from groundup.clock import Clock
from groundup.parallel.meeting import call_together, wait_for_call
from groundup.parallel.processes import Processes, joined
from groundup.pipeline.build import undone_if_refused
from groundup.pipeline.continuing import continue_run
from groundup.pipeline.display import Display
from groundup.pipeline.together import wait_for
from groundup.pipeline.tuning.run import check, with_whole_paths, work
from groundup.recipe import Recipe
from groundup.run import Run
from groundup.train.device import choose_device


def tune_together(
    recipe: Recipe, folder: Path, display: Display, processes: Processes, started: float | None = None
) -> dict[str, Any]:
    """This process's part of the stage in `folder`; the outcome, in the first process.

    An unfinished run there is continued. Raises UserError, and train.trainer.Interrupted in all processes alike.
    """
    recipe, clock = with_whole_paths(recipe), Clock(started)
    if processes.rank > 0:
        return _join(folder, clock, display, processes)
    check(recipe)
    if Run(folder).recipe_file.is_file():
        return _lead(continue_run(folder, recipe), clock, display, processes)
    with undone_if_refused(Run.create(folder, recipe)) as run:
        return _lead(run, clock, display, processes)


def _lead(run: Run, clock: Clock, display: Display, processes: Processes) -> dict[str, Any]:
    with run.locked():
        store = call_together(processes)
        if run.finished:
            display.say(f"{run.folder} is finished; there is nothing left to train")
            return run.read_json(run.outcome_file)
        with joined(processes, choose_device(run.recipe.train.device), store):
            return work(run, clock, display, processes)


def _join(folder: Path, clock: Clock, display: Display, processes: Processes) -> dict[str, Any]:
    store = wait_for_call(processes)
    run = Run(folder)
    wait_for(run.recipe_file, processes)
    if not run.finished:
        with joined(processes, choose_device(run.recipe.train.device), store):
            work(run, clock, display, processes)
    return {}
