"""Which layouts `groundup bench parallel` compares: those asked for, or every technique that fits."""

from dataclasses import dataclass
from typing import Any

from groundup import recipe as recipes
from groundup.errors import UserError
from groundup.pipeline.bench_process import Trial
from groundup.plan.cluster.layout import Layout
from groundup.plan.parallel import group_sizes, resolve
from groundup.recipe import ParallelRecipe, Recipe

_HOW = ("bucket_mb", "reduce", "offload")
# Micro-batches in a step, where the recipe leaves that open: some to add up, and for each stage of a pipeline.
_MICRO_BATCHES = 2


@dataclass(frozen=True)
class Candidate:
    """A layout with the settings that it follows from; `name` as it is written with --layout."""

    name: str
    parallel: ParallelRecipe
    layout: Layout


def every_technique(nproc: int) -> list[str]:
    """Each technique alone on so many processes, and from four on what they make together."""
    alone = [f"data={nproc}", *(f"data={nproc},zero={zero}" for zero in (1, 2, 3))]
    alone += [f"tensor={nproc},sequence=false", f"tensor={nproc}", f"context={nproc}"]
    alone += [f"pipeline={nproc},schedule={schedule}" for schedule in ("gpipe", "1f1b")]
    alone.append(f"pipeline={nproc},schedule=interleaved,virtual_stages=2")
    if nproc < 4 or nproc % 2:
        return alone
    half = nproc // 2
    return [
        *alone,
        f"data={nproc},zero=3,replicate=2",
        f"tensor=2,data={half},zero=2",
        f"pipeline=2,data={half},zero=1",
        f"context=2,data={half}",
    ]


def candidate(recipe: Recipe, trial: Trial, text: str, nproc: int) -> Candidate:
    """The layout that `text` ("data=2,zero=3") asks for on so many processes.

    Raises UserError for an unknown field, and in one line for what does not divide.
    """
    asked = _with_layout(recipe, text)
    sizes = group_sizes(asked.parallel, nproc)
    count = _MICRO_BATCHES * sizes.pipeline
    micro_batch = recipe.train.micro_batch or max(1, trial.batch_size // (sizes.data * count))
    layout = resolve(asked, nproc, trial.shape, trial.batch_size, micro_batch)
    return Candidate(text, asked.parallel, layout)


def _with_layout(recipe: Recipe, text: str) -> Recipe:
    """The recipe with these fields of `[parallel]`; how gradients travel stays as it says."""
    given: dict[str, Any] = {}
    for assignment in text.split(","):
        name, equals, _ = assignment.partition("=")
        if not equals:
            raise UserError(f"--layout {text}: write it as field=value,field=value, for example data=2,zero=3")
        given |= recipes.parse_overrides([f"parallel.{name.strip()}{assignment[len(name) :]}"])
    tree = recipe.model_dump(exclude_none=True)
    kept = {name: getattr(recipe.parallel, name) for name in _HOW}
    tree["parallel"] = kept | {field.removeprefix("parallel."): value for field, value in given.items()}
    return recipes.parse(tree, f"--layout {text}")
