"""`groundup merge`."""

import json
from pathlib import Path
from typing import Annotated

import typer


def merge(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL MODEL...", help="Model folders, runs, or checkpoints: RUN/checkpoints/step-N."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The model folder to write.")],
    weights: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="How much each counts. Default: all alike.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Average the weights of models that were trained from one start, such as the last checkpoints of a run."""
    from groundup.pipeline import merge as pipeline

    made = pipeline.merge(models, out, weights)
    if as_json:
        print(json.dumps(made, ensure_ascii=False))
        return 0
    for part in made["merged"]:
        print(f"{part['weight']:.4f}  {part['model']}")
    print(f"{made['model']}: the average of {len(made['merged'])} models")
    return 0
