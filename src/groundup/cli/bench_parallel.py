"""`groundup bench parallel`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def parallel(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A ready recipe's name or a TOML file.")
    ] = "default",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override any field of the recipe.")
    ] = None,
    nproc: Annotated[int, typer.Option(min=2, help="How many processes to divide the step over.")] = 2,
    layout: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE,...",
            help="Measure this layout, such as data=2,zero=3; may be repeated. Default: every technique.",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="How long steps are timed, for each layout.")] = 3.0,
    out: Annotated[
        Path | None, typer.Option(help="A folder for the page and the figures. Default: runs/bench-1, -2, ...")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")] = False,
) -> int:
    """Divide a step over processes, and show what each layout sends, keeps and waits for, beside theory."""
    from rich.console import Console

    from groundup import recipe as recipes

    loaded = recipes.load(recipe, recipes.parse_overrides(set_ or []))

    from groundup.pipeline.bench_parallel import bench_parallel
    from groundup.pipeline.display import Display

    display = Display(Console(file=sys.stderr if as_json else sys.stdout))
    outcome = bench_parallel(loaded, display, nproc=nproc, layouts=layout or [], seconds=seconds, out=out)
    if as_json:
        print(json.dumps(outcome, ensure_ascii=False))
    return 0
