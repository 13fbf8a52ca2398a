"""`groundup scaling`: sweep, fit, predict."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from groundup.cli.answers import ExplainOption, HtmlOption, JsonOption, give
from groundup.errors import UserError

app = typer.Typer(name="scaling", rich_markup_mode=None)


@app.command()
def sweep(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SOURCE]...", help="Text, as for `groundup build`. Default: wiki-en."),
    ] = None,
    budget: Annotated[str, typer.Option(help="Of all runs together: 8m, 1e15flop or 50Mtok.")] = "8m",
    runs: Annotated[int, typer.Option(min=2, help="How many; a law needs 5 or more.")] = 8,
    longest: Annotated[str, typer.Option(help="No run takes longer, where time is the budget.")] = "60s",
    recipe: Annotated[str, typer.Option(help="A ready recipe's name or a TOML file.")] = "default",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override any field of the recipe.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The sweep's folder; one that is unfinished goes on. Default: runs/scaling-1."),
    ] = None,
    explain: ExplainOption = None,
    html: HtmlOption = None,
    as_json: JsonOption = False,
) -> int:
    """Train small models of different size and length on this machine, to fit a law to."""
    from rich.console import Console

    from groundup import recipe as recipes
    from groundup.plan.budget import parse_budget

    longest_budget = parse_budget(longest)
    if longest_budget.kind != "seconds":
        raise UserError(f"--longest {longest} is not a time; write 60s or 2m")
    parse_budget(budget)
    named = {"data.sources": sources} if sources else {}
    loaded = recipes.load(recipe, recipes.parse_overrides(set_ or []) | named)

    from groundup.pipeline import scaling
    from groundup.pipeline.display import Display
    from groundup.pipeline.scaling_answers import sweep_answer
    from groundup.train.trainer import Interrupted

    display = Display(Console(file=sys.stderr if as_json else sys.stdout))
    question = scaling.Question(loaded, budget, runs, longest_budget.amount)
    try:
        folder, rows = scaling.sweep(question, out, display)
    except Interrupted as stop:
        message = f"{stop} and saved; the same command goes on with what is missing"
        display.say(message)
        if as_json:
            print(json.dumps({"error": message}))
        return 128 + stop.signal
    return give(sweep_answer(folder, rows), as_json=as_json, explain=explain, html=html)


@app.command()
def fit(
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER|FILE", help="A sweep's folder, or a .csv or .jsonl file.")
    ],
    form: Annotated[
        str, typer.Option(help="tied, chinchilla, kaplan, or auto: the one that misses a left-out run least.")
    ] = "auto",
    loss_column: Annotated[str | None, typer.Option(help="Which column is the loss.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Only these rows; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="LAW.json", help="Where the law goes. Default: law.json, in a sweep's folder."),
    ] = None,
    explain: ExplainOption = None,
    html: HtmlOption = None,
    as_json: JsonOption = False,
) -> int:
    """Fit the law of the loss to runs, with intervals."""
    from groundup.pipeline.scaling_answers import fit_answer
    from groundup.plan.scaling.fitted import fit_runs
    from groundup.plan.scaling.runs import read_runs

    conditions = {}
    for condition in where or []:
        column, equals, value = condition.partition("=")
        if not equals:
            raise UserError(f"--where {condition}: write it as column=value, for example --where ds=c4")
        conditions[column] = value
    runs = read_runs(source, loss_column, conditions)
    found = fit_runs(runs, form, origin=f"fitted to {len(runs)} runs of {source}")
    target = out or ((source if source.is_dir() else Path()) / "law.json")
    found.fitted.save(target)
    return give(fit_answer(found, runs, str(source), target), as_json=as_json, explain=explain, html=html)


@app.command()
def predict(
    law: Annotated[
        str,
        typer.Argument(
            metavar="LAW", help="A law.json, or besiroglu, hoffmann, muennighoff, many-epochs, kaplan."
        ),
    ],
    budget: Annotated[str, typer.Option(help="5m (of training), 1e18flop or 300Btok.")],
    params: Annotated[
        str | None,
        typer.Option(metavar="N", help="Parameters without embeddings: 4e6, 350M, 7B. Default: the best."),
    ] = None,
    unique: Annotated[
        str | None,
        typer.Option(metavar="TOKENS", help="How much text there is: 100Mtok. Default: as the law's runs had."),
    ] = None,
    explain: ExplainOption = None,
    html: HtmlOption = None,
    as_json: JsonOption = False,
) -> int:
    """The loss that a budget should buy, with its interval, and the best size for it."""
    from groundup.pipeline.scaling_answers import Wanted, predict_answer
    from groundup.plan.budget import parse_budget
    from groundup.plan.scaling.fitted import find_law

    wanted = Wanted(
        parse_budget(budget),
        _amount("--params", params) if params else None,
        _amount("--unique", unique.removesuffix("tok")) if unique else None,
    )
    return give(predict_answer(find_law(law), wanted), as_json=as_json, explain=explain, html=html)


_FACTORS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


def _amount(option: str, text: str) -> float:
    """`7B`, `350M`, `4e6` as a number."""
    number = text.rstrip("kKmMbBtT")
    try:
        value = float(number) * _FACTORS[text[len(number) :].lower()]
    except (KeyError, ValueError):
        value = -1.0
    if not 0 < value < float("inf"):
        raise UserError(f"{option} '{text}' is not a positive number; write 4e6, 350M or 7B")
    return value
