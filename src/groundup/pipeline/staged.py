"""A recipe's run, whatever it does: pretraining, a stage behind it, or a chain of stages."""

from pathlib import Path
from typing import Any

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
