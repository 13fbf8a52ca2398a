"""`groundup plan calibrate`."""

import sys
from typing import Annotated

import typer

from groundup.cli.answers import ExplainOption, HtmlOption, JsonOption, give


def calibrate(
    recipe: Annotated[str, typer.Option(help="Whose device, threads, precision and optimizer.")] = "default",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override any field of the recipe.")
    ] = None,
    explain: ExplainOption = None,
    html: HtmlOption = None,
    as_json: JsonOption = False,
) -> int:
    """Probe this machine for a minute; later plans use what was measured."""
    from rich.console import Console

    from groundup import recipe as recipes
    from groundup.pipeline.calibrate import calibrate as probe
    from groundup.pipeline.display import Display

    loaded = recipes.load(recipe, recipes.parse_overrides(set_ or []))
    display = Display(Console(file=sys.stderr if as_json else sys.stdout))
    return give(probe(loaded.train, display), as_json=as_json, explain=explain, html=html)
