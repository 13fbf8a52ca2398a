"""`groundup compare`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from groundup.cli.answers import HtmlOption, JsonOption, give


def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="[FAMILY...] SOURCE", help="Families (default: all that read text), then the text."
        ),
    ],
    budget: Annotated[str, typer.Option(help="Of each family: time, FLOPs, tokens or steps, such as 3m.")] = "3m",
    probe: Annotated[
        list[Path] | None, typer.Option("--probe", help="Labelled texts to classify; may be repeated.")
    ] = None,
    similarity: Annotated[
        list[Path] | None, typer.Option("--similarity", help="Lines `word word score`; may be repeated.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the runs go; run again, it goes on from there.")] = Path(
        "compare"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Of all runs.")] = 1,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="A field of every family's recipe.")
    ] = None,
    html: HtmlOption = None,
    as_json: JsonOption = False,
) -> int:
    """Train families with the same budget on the same text, and ask them the same questions."""
    from rich.console import Console

    from groundup.data.corpora import CORPORA
    from groundup.errors import UserError, nearest
    from groundup.pipeline.compare import Question, compare, text_families
    from groundup.pipeline.display import Display
    from groundup.recipe import parse_overrides
    from groundup.shape import FAMILIES
    from groundup.train.trainer import Interrupted

    families = [name for name in names if name in FAMILIES]
    sources = [name for name in names if name not in FAMILIES]
    for name in sources:
        if not Path(name).exists() and (meant := nearest(name, [*FAMILIES, *CORPORA])) and name not in CORPORA:
            raise UserError(f"'{name}' is neither a family nor a text{meant}")
    if not sources:
        raise UserError("no text to learn from; name it behind the families: groundup compare gpt2 bert TEXT")
    question = Question(
        families or text_families(),
        budget,
        sources,
        out,
        probe or [],
        similarity or [],
        seed,
        parse_overrides(set_ or []),
    )
    display = Display(Console(file=sys.stderr))
    try:
        answer = compare(question, display)
    except Interrupted as stop:
        message = f"{stop} and saved; the same command goes on from there"
        display.say(message)
        if as_json:
            print(json.dumps({"error": message}))
        return 128 + stop.signal
    return give(answer, as_json=as_json, explain=None, html=html or out / "compare.html")
