"""`groundup plan`."""

from typing import Annotated

import typer

from groundup.cli.answers import ExplainOption, HtmlOption, JsonOption, give
from groundup.cli.plan_calibrate import calibrate
from groundup.cli.plan_dryrun import dryrun
from groundup.cli.plan_layout import layout
from groundup.cli.plan_ledger import ledger
from groundup.cli.plan_memory import memory

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
app.command("memory")(memory)
app.command("layout")(layout)
app.command("ledger")(ledger)
app.command("dryrun")(dryrun)
app.command("calibrate")(calibrate)


@app.callback()
def plan(
    context: typer.Context,
    budget: Annotated[
        str | None,
        typer.Option(help="2h, $500, 1e21flop, 300Btok or 5000steps. Default: the recipe's."),
    ] = None,
    hardware: Annotated[
        str, typer.Option(help="'this' machine, or devices such as h100x8, a100x64, tpu-v3-8.")
    ] = "this",
    data: Annotated[
        str | None, typer.Option(help="The text there is: a file, a folder, 5GB or 20Btok. Default: enough.")
    ] = None,
    params: Annotated[str | None, typer.Option(help="Fix the model's size: 7B.")] = None,
    shape: Annotated[
        str | None, typer.Option(help="Fix its shape: llama3-8b, or layers=32,width=4096,...")
    ] = None,
    recipe: Annotated[str, typer.Option(help="A ready recipe's name or a TOML file.")] = "default",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override any field of the recipe.")
    ] = None,
    law: Annotated[
        str | None, typer.Option(help="A law that `groundup scaling fit` wrote, or a published one's name.")
    ] = None,
    price: Annotated[
        float | None, typer.Option(min=0, help="US dollars an hour for each device, or for this machine.")
    ] = None,
    region: Annotated[str, typer.Option(help="Where the electricity comes from.")] = "world",
    explain: ExplainOption = None,
    html: HtmlOption = None,
    as_json: JsonOption = False,
) -> int | None:
    """Say what to train within a budget, how long it takes, what it needs and what loss to expect."""
    if context.invoked_subcommand:
        return None
    from groundup import recipe as recipes
    from groundup.pipeline.planning import Asked, plan_answer

    given = recipes.parse_overrides(set_ or []) | ({"budget": budget} if budget else {})
    asked = Asked(hardware, data, params, shape, law, price, region)
    return give(plan_answer(recipes.load(recipe, given), asked), as_json=as_json, explain=explain, html=html)
