"""A recipe's run, whatever it does: pretraining, a stage behind it, or a chain of stages."""

from pathlib import Path
from typing import Any

from groundup.errors import UserError
from groundup.parallel.processes import Processes
from groundup.pipeline import build as pretraining
from groundup.pipeline.display import Display
from groundup.recipe import Recipe
from groundup.run import Run


def build(recipe: Recipe, folder: Path, display: Display, started: float | None = None) -> dict[str, Any]:
    """Take it through in a new folder; the outcome. Errors as in `pipeline.build`."""
    if recipe.stages:
        from groundup.pipeline.tuning.chain import build_chain

        return build_chain(recipe, folder, display, started)
    if recipe.stage != "pretrain":
        from groundup.pipeline.tuning.run import tune

        return tune(recipe, folder, display, started)
    return pretraining.build(recipe, folder, display, started)


def resume(run: Run, display: Display, started: float | None = None) -> dict[str, Any]:
    """Continue it from as far as it had come."""
    recipe = run.recipe
    if recipe.stages:
        from groundup.pipeline.tuning.chain import resume_chain

        return resume_chain(run, display, started)
    if recipe.stage != "pretrain":
        from groundup.pipeline.tuning.run import resume_tuning

        return resume_tuning(run, display, started)
    return pretraining.resume(run, display, started)


def build_together(
    recipe: Recipe, folder: Path, display: Display, processes: Processes, started: float | None = None
) -> dict[str, Any]:
    """This process's part of what many do together, a new run or one that is there; the outcome, in the first."""
    if recipe.stages:
        raise UserError("a chain of stages runs in one process; leave out --nproc, or start each stage by itself")
    if recipe.stage != "pretrain":
        from groundup.pipeline.tuning.together import tune_together

        return tune_together(recipe, folder, display, processes, started)
    from groundup.pipeline.together import train_together

    return train_together(recipe, folder, display, processes, started)


def settled(recipe: Recipe) -> Recipe:
    """As the recipe stands in its run: the paths of its stages lead there from anywhere."""
    if recipe.stage == "pretrain" and not recipe.stages:
        return recipe
    from groundup.pipeline.tuning.run import with_whole_paths

    return with_whole_paths(recipe)
