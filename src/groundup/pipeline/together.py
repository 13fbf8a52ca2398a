"""A run that many processes do together: one prepares it, all train, one finishes it.

torchrun starts the same command in every process. The first one reads the text, makes tokenizer and shards and
plans, as `groundup build` does; the others wait until it says so, however long that takes. Then all of them meet
and train. After that they leave, and the first one takes the last checkpoint to its end.
"""

import time
from pathlib import Path
from typing import Any

from groundup.clock import Clock
from groundup.errors import UserError
from groundup.parallel.meeting import call_together, wait_for_call
from groundup.parallel.processes import Processes, joined
from groundup.pipeline.build import create_run, finish_training, load_job, prepare, undone_if_refused
from groundup.pipeline.continuing import continue_run
from groundup.pipeline.display import Display
from groundup.pipeline.train import last_model, train_part
from groundup.recipe import Recipe
from groundup.run import Run
from groundup.train.device import choose_device

_LOOK_EVERY_SECONDS = 0.2
# Until a file that one host has written is seen by the others.
_FILE_SYSTEM_SECONDS = 60.0


def train_together(
    recipe: Recipe, folder: Path, display: Display, processes: Processes, started: float | None = None
) -> dict[str, Any]:
    """This process's part of the run in `folder`; the outcome, in the first process.

    An unfinished run there is continued, with the recipe's layout; a finished one is left as it is. Raises
    UserError, and train.trainer.Interrupted in all processes alike.
    """
    clock = Clock(started)
    if processes.rank > 0:
        return _join(folder, display, processes)
    if Run(folder).recipe_file.is_file():
        return _lead(continue_run(folder, recipe), clock, display, processes)
    with undone_if_refused(create_run(recipe, folder, processes.world_size)) as run:
        return _lead(run, clock, display, processes)


def _lead(run: Run, clock: Clock, display: Display, processes: Processes) -> dict[str, Any]:
    """The part of the first process."""
    with run.locked():
        if not run.finished:
            prepare(run, clock, display, processes)
        store = call_together(processes)
        if run.finished:
            display.say(f"{run.folder} is finished; there is nothing left to train")
            return run.read_json(run.outcome_file)
        job = load_job(run, display, processes)
        with joined(processes, choose_device(job.recipe.train.device), store):
            state = train_part(job)
        return finish_training(job, last_model(job, state), state, clock)


def _join(folder: Path, display: Display, processes: Processes) -> dict[str, Any]:
    """The part of every process but the first."""
    store = wait_for_call(processes)
    run = Run(folder)
    wait_for(run.plan_file, processes)
    if not run.finished:
        job = load_job(run, display, processes)
        with joined(processes, choose_device(job.recipe.train.device), store):
            train_part(job)
    return {}


def wait_for(file: Path, processes: Processes) -> None:
    """Until `file` is seen here; UserError if it never is."""
    end = time.monotonic() + _FILE_SYSTEM_SECONDS
    while not file.is_file():
        if time.monotonic() > end:
            raise UserError(
                f"process {processes.rank} does not see {file}, which the first process has written; give an "
                "--out, and a $GROUNDUP_CACHE, on a file system that all hosts share"
            )
        time.sleep(_LOOK_EVERY_SECONDS)
