"""`groundup build`."""

from pathlib import Path
from typing import Annotated

import typer

from groundup.errors import UserError


def build(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]...",
            help="Files, folders, globs, '-', corpora (wiki-en, python, ...) or hf:NAME. Default: wiki-en.",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="90s, 10m, 2h, 5e15flop, 200ktok, 50Mtok or 500steps. Default: the recipe's."),
    ] = None,
    stages: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="pretrain,sft,reward,dpo,ppo,grpo,reject. Default: the recipe's."),
    ] = None,
    recipe: Annotated[str, typer.Option(help="A ready recipe's name or a TOML file.")] = "default",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override any field of the recipe.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder. Default: runs/NAME-1, -2, ...")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides, with the recipe, the whole run.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")] = False,
) -> int:
    """Train a language model on your text, within a budget."""
    import psutil

    started = psutil.Process().create_time()
    if resume and (sources or budget or stages or set_ or seed is not None or recipe != "default"):
        raise UserError("--resume continues a run as it was planned; give it only --out (and --json)")
    from groundup import recipe as recipes
    from groundup import run as runs

    if resume:
        run = runs.Run.open(out) if out else runs.newest_unfinished()
        folder = run.folder
    else:
        chain = stages.split(",") if stages else None
        given = {"budget": budget, "seed": seed, "data.sources": sources or None, "stages": chain}
        named = {field: value for field, value in given.items() if value is not None}
        loaded = recipes.load(recipe, recipes.parse_overrides(set_ or []) | named)
        folder = out or runs.new_folder(loaded.name)

    from groundup.cli.stage import follow
    from groundup.pipeline import staged

    return follow(
        lambda display: (
            staged.resume(run, display, started) if resume else staged.build(loaded, folder, display, started)
        ),
        f"groundup build --resume --out {folder}",
        as_json,
    )
