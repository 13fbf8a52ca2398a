"""`groundup plan dryrun`."""

from typing import Annotated

import typer

from groundup.cli.answers import ExplainOption, HtmlOption, JsonOption, give


def dryrun(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A ready recipe's name or a TOML file.")],
    hardware: Annotated[str, typer.Option(help="Devices such as h100x512 or a100x64.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override any field of the recipe.")
    ] = None,
    params: Annotated[str | None, typer.Option(help="The model's size, such as 7B.")] = None,
    shape: Annotated[str | None, typer.Option(help="Or its shape: llama3-8b, or layers=32,width=4096,...")] = None,
    rank: Annotated[int, typer.Option(min=0, help="Which of the processes.")] = 0,
    explain: ExplainOption = None,
    html: HtmlOption = None,
    as_json: JsonOption = False,
) -> int:
    """Rehearse a step on many devices here, without memory: what a process keeps and sends, beside formulas."""
    from groundup import recipe as recipes
    from groundup.pipeline.dryrun import asked, dry_run

    whole = recipes.load(recipe, recipes.parse_overrides(set_ or []))
    answer = dry_run(asked(whole, hardware, params, shape, rank))
    return give(answer, as_json=as_json, explain=explain, html=html)
