"""`groundup plan ledger`."""

from typing import Annotated

import typer

from groundup.cli.answers import ExplainOption, HtmlOption, JsonOption, give


def ledger(
    subject: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A published model such as gpt3, a run, or a model folder."),
    ],
    seq: Annotated[
        int | None, typer.Option(min=1, help="Tokens that attention looks back over. Default: the context.")
    ] = None,
    explain: ExplainOption = None,
    html: HtmlOption = None,
    as_json: JsonOption = False,
) -> int:
    """List a model's weights by category, with their matrices, shapes, shares, bytes and operations."""
    from groundup.pipeline.ledger import ledger_of

    return give(ledger_of(subject, seq), as_json=as_json, explain=explain, html=html)
