"""The options of the verbs that learn from answers of their own."""

from typing import Annotated, TypeAlias

import typer

RewardOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL|FILE.py[:FUNCTION]|PROGRAM|demo:pleasant",
        help="Who judges the answers. Default: the recipe's.",
    ),
]
RoundsOption: TypeAlias = Annotated[
    int | None, typer.Option(help="How often answers are written and learnt from.")
]
TokensOption: TypeAlias = Annotated[int | None, typer.Option(help="Most tokens of an answer.")]
KlOption: TypeAlias = Annotated[
    float | None, typer.Option(help="Beta, the price of a nat away from the reference.")
]
KlTargetOption: TypeAlias = Annotated[
    float | None, typer.Option(help="Steer beta towards so many nats an answer. Default: beta stays.")
]
KlLimitOption: TypeAlias = Annotated[float | None, typer.Option(help="End at more nats an answer than this.")]
