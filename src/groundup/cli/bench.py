"""`groundup bench`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from groundup.cli.bench_parallel import parallel
from groundup.errors import UserError


class _WithRecipe(TyperGroup):
    """A command of its own that has subcommands: its first argument is one of their names, or a recipe."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Where a subcommand is named, the recipe before it is empty; else options may follow the recipe."""
        if args and args[0] in self.commands:
            return super().parse_args(ctx, ["", *args])
        ctx.allow_interspersed_args, ctx.allow_extra_args = True, False
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """Of which the usage of a subcommand shows none."""
        return super().get_params(ctx) if ctx.command is self else []


app = typer.Typer(
    cls=_WithRecipe,
    invoke_without_command=True,
    subcommand_metavar="| COMMAND [ARGS]...",
    rich_markup_mode=None,
)
app.command("parallel")(parallel)


@app.callback()
def bench(
    context: typer.Context,
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A ready recipe's name or a TOML file.")
    ] = "default",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override any field of the recipe.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="How long steps are timed, in each trial.")] = 3.0,
    profile: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Record a few steps for Perfetto, and say where the time goes."),
    ] = None,
    sweep: Annotated[
        bool,
        typer.Option("--sweep", help="Measure micro-batch x accumulation x recompute x precision x compile."),
    ] = False,
    over: Annotated[
        list[str] | None,
        typer.Option(metavar="AXIS=VALUE,...", help="Sweep only these values of an axis; may be repeated."),
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="Show the memory of a step over time.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="A folder for pages and figures. Default: runs/bench-1, -2, ...")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")] = False,
) -> int | None:
    """Measure how fast this machine trains, in how much memory, and where the time goes."""
    if context.invoked_subcommand:
        return None
    if over and not sweep:
        raise UserError("--over says what to sweep; give --sweep with it")
    from rich.console import Console

    from groundup import recipe as recipes

    loaded = recipes.load(recipe, recipes.parse_overrides(set_ or []))

    from groundup.pipeline import bench as pipeline
    from groundup.pipeline.bench_sweep import parse_axes
    from groundup.pipeline.display import Display

    outcome = pipeline.bench(
        loaded,
        Display(Console(file=sys.stderr if as_json else sys.stdout)),
        seconds=seconds,
        out=out,
        timeline=profile,
        axes=parse_axes(over or []) if sweep else None,
        memory=memory,
    )
    if as_json:
        print(json.dumps(outcome, ensure_ascii=False))
    return 0
