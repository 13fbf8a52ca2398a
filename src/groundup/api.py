"""The library's form of `groundup build`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from groundup.pipeline.build import build as run_build
from groundup.pipeline.display import Display
from groundup.recipe import load as load_recipe
from groundup.run import Run, new_folder


def build(
    sources: Sequence[str] = (),
    *,
    budget: str | None = None,
    recipe: str = "default",
    out: str | Path | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Run:
    """Build a language model from text; the same as the command line's `groundup build`.

    Args:
        sources: files, folders, globs, corpora or hf:NAME; by default the embedded corpus.
        budget: such as "10m", "5e15flop" or "50Mtok"; by default the recipe's.
        recipe: a ready recipe's name or a TOML file.
        out: the run's folder, by default `runs/NAME-1`, ...
        seed: decides, with the recipe, the whole run.
        settings: any fields of the recipe, such as {"train.lr": 3e-4}.
        quiet: print nothing.

    Returns the finished run, which `groundup.load(run.folder)` reads. Raises UserError for bad input, and
    train.trainer.Interrupted after Ctrl-C, when the state is saved.
    """
    fields = dict(settings or {})
    given = {"budget": budget, "seed": seed, "data.sources": list(sources) or None}
    fields |= {name: value for name, value in given.items() if value is not None}
    resolved = load_recipe(recipe, fields)
    folder = Path(out) if out else new_folder(resolved.name)
    run_build(resolved, folder, Display(Console(stderr=True, quiet=quiet)))
    return Run.open(folder)
