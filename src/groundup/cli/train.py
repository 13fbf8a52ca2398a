"""`groundup train`."""

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from groundup.errors import UserError

if TYPE_CHECKING:
    from groundup.parallel.processes import Processes
    from groundup.recipe import Recipe

# A process that must stop beside others gives the first one so long to say why.
_SILENT_SECONDS = 2.0
_USER_ERROR = 2
_BY_SIGNAL = 128


def train(
    context: typer.Context,
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="A ready recipe's name or a TOML file.")
    ] = None,
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="[SOURCE]...", help="Text, as for build. Default: the recipe's.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="As for build. Default: the recipe's.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Override any field, such as parallel.zero=1."),
    ] = None,
    nproc: Annotated[
        int | None, typer.Option(min=1, help="Start so many processes here, as torchrun does.")
    ] = None,
    max_restarts: Annotated[
        int, typer.Option(min=0, help="With --nproc: how often to go on by itself when a process dies.")
    ] = 0,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; one that is there already is continued.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides, with the recipe, the whole run.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the newest run, or that of --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")] = False,
) -> int:
    """Train a recipe's model, on one device or, by torchrun or --nproc, on many."""
    from groundup.pipeline.launch import refused_before

    if refused_before():
        return _USER_ERROR
    if resume and (recipe or sources or budget or seed is not None):
        raise UserError("--resume continues a run as it was planned; give it only --out and --set parallel...")
    if max_restarts and not nproc:
        raise UserError("--max-restarts is for --nproc; torchrun has a --max-restarts of its own")
    given = {"budget": budget, "seed": seed, "data.sources": sources or None}
    loaded, folder = _recipe_and_folder(recipe, set_ or [], given, out, resume)
    if nproc and nproc > 1:
        return _start(context.obj, loaded, folder, nproc, max_restarts, as_json)
    return _work(loaded, folder, as_json)


def _recipe_and_folder(
    name: str | None, overrides: list[str], given: dict[str, Any], out: Path | None, resume: bool
) -> tuple["Recipe", Path]:
    from groundup import recipe as recipes
    from groundup import run as runs

    written = recipes.parse_overrides(overrides)
    named = {field: value for field, value in given.items() if value is not None}
    if resume:
        run = runs.Run.open(out) if out else runs.newest_unfinished()
        if other := [field for field in written if not field.startswith("parallel.")]:
            raise UserError(f"--resume continues a run as it was planned; leave out --set {other[0]}")
        return recipes.load(str(run.recipe_file), written), run.folder
    loaded = recipes.load(name or "default", written | named)
    return loaded, out or _folder(loaded.name)


def _folder(name: str) -> Path:
    """`runs/NAME-1` and so on; under torchrun the same in all processes and after a restart."""
    from groundup import run as runs

    run_id = os.environ.get("TORCHELASTIC_RUN_ID")
    if run_id is None:
        return runs.new_folder(name)
    return runs.DEFAULT_PARENT / (name if run_id == "none" else f"{name}-{run_id}")


def _start(
    command: list[str], recipe: "Recipe", folder: Path, nproc: int, max_restarts: int, as_json: bool
) -> int:
    """The same command in `nproc` processes, with the folder settled; what can be refused at once is."""
    from groundup.pipeline.launch import start_processes
    from groundup.plan.parallel import group_sizes, refuse_unsupported
    from groundup.run import Run

    if os.environ.get("WORLD_SIZE"):
        raise UserError("--nproc starts processes, but torchrun has started this one; leave --nproc out")
    group_sizes(recipe.parallel, nproc)
    refuse_unsupported(recipe, nproc)
    if Run(folder).finished:
        return _work(recipe, folder, as_json)
    arguments = _without(command, ("--nproc", "--max-restarts", "--out"))
    exit_code = start_processes([*arguments, "--out", str(folder)], nproc, max_restarts, folder)
    if exit_code > _BY_SIGNAL and not any(Run(folder).checkpoints.glob("step-*")):
        raise typer.Abort  # before there was anything to save, and no process has said so
    return exit_code


def _without(arguments: list[str], options: tuple[str, ...]) -> list[str]:
    """The command line without some options and their values."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if not skip and argument.partition("=")[0] not in options:
            kept.append(argument)
        skip = not skip and argument in options
    return kept


def _work(recipe: "Recipe", folder: Path, as_json: bool) -> int:
    """Train in this process, alone or as one of those that torchrun started."""
    import psutil
    from rich.console import Console

    from groundup.parallel.processes import from_environment
    from groundup.pipeline.display import Display
    from groundup.pipeline.launch import end_with_parent, started_at
    from groundup.train.trainer import Interrupted

    end_with_parent()
    processes = from_environment()
    is_first = processes is None or processes.rank == 0
    started = started_at() or psutil.Process().create_time() if is_first else time.time()
    display = Display(Console(file=sys.stderr if as_json else sys.stdout, quiet=not is_first))
    try:
        outcome = _train(recipe, folder, display, processes, started)
    except Interrupted as stop:
        message = f"{stop} and saved; continue with: groundup train --resume --out {folder}{_how(processes)}"
        display.say(message)
        if as_json and is_first:
            print(json.dumps({"error": message}))
        return 128 + stop.signal
    if as_json and is_first:
        print(json.dumps(outcome, ensure_ascii=False))
    return 0


def _train(
    recipe: "Recipe", folder: Path, display: Any, processes: "Processes | None", started: float
) -> dict[str, Any]:
    from groundup.cli.main import explain
    from groundup.parallel.processes import is_lost_connection
    from groundup.pipeline import staged
    from groundup.pipeline.continuing import continue_run
    from groundup.pipeline.launch import refuse
    from groundup.run import Run

    if processes is None:
        if Run(folder).recipe_file.is_file():
            return staged.resume(continue_run(folder, staged.settled(recipe)), display, started)
        return staged.build(recipe, folder, display, started)
    try:
        return staged.build_together(recipe, folder, display, processes, started)
    except (UserError, OSError) as error:
        if processes.rank > 0:
            time.sleep(_SILENT_SECONDS)
        if refuse(explain(error) if isinstance(error, OSError) else str(error)):
            raise typer.Exit(_USER_ERROR) from None
        raise
    except RuntimeError as error:
        if not is_lost_connection(error):
            raise
        print(f"process {processes.rank}: the connection to the other processes is lost; it ends", file=sys.stderr)
        raise typer.Exit(1) from None


def _how(processes: "Processes | None") -> str:
    return f" --nproc {processes.world_size}" if processes else ""
