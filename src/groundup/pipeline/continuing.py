"""Going on with a run that is there: the same recipe, on other devices if need be."""

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

from groundup.errors import UserError
from groundup.recipe import Recipe, known_fields
from groundup.run import Run, read_rows, truncate_rows
from groundup.train import checkpoints

_LEFT_OPEN: tuple[Any, ...] = (None, "auto", [])
# Layouts may change on the way; a vocabulary comes out smaller where there is little text.
_MAY_DIFFER = ("parallel.", "tokenizer.vocabulary_size")


def continue_run(folder: Path, recipe: Recipe | None) -> Run:
    """The run in `folder`, with the layout of `recipe` from now on, if one is given.

    UserError where `recipe` asks for anything else than the run does.
    """
    run = Run.open(folder)
    if recipe is None or run.finished:
        return run
    own = run.recipe
    refuse_other(folder, own, recipe)
    if own.parallel != recipe.parallel:
        own.parallel = recipe.parallel
        run.save_recipe(own)
    return run


def where_it_stands(run: Run, warn: Callable[[str], None]) -> tuple[Path | None, float, int]:
    """The last intact checkpoint, behind which metrics are cut off, the seconds spent in all, and its step.

    A validation comes after the checkpoint of its step, and is made again with what follows.
    """
    checkpoint = checkpoints.newest_intact(run.checkpoints, warn)
    spent = max((row["seconds"] for row in read_rows(run.metrics_file)), default=0.0)
    step = checkpoints.read_state(checkpoint).step if checkpoint else 0
    truncate_rows(run.metrics_file, step, last_validation=step - 1)
    return checkpoint, spent, step


def refuse_other(folder: Path, own: Recipe, recipe: Recipe) -> None:
    """UserError where `recipe` asks for anything else than the recipe of the run in `folder` says."""
    for field in known_fields():
        wanted, there = _value(recipe, field), _value(own, field)
        if not field.startswith(_MAY_DIFFER) and wanted not in _LEFT_OPEN and wanted != there:
            raise UserError(
                f"{folder} holds a run with {field}={there}, not {wanted}; leave it as it was to continue, "
                "or choose another folder with --out"
            )


def _value(recipe: Recipe, field: str) -> Any:
    return reduce(getattr, field.split("."), recipe)
