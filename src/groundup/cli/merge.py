"""`groundup merge`."""

import json
from pathlib import Path
from typing import Annotated

import typer


def merge(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL...",
            help="One folder of adapters; or model folders, runs, or checkpoints: RUN/checkpoints/step-N.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The model folder to write.")],
    weights: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="How much each counts. Default: all alike.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Write adapters into their model's weights; or average models of one start, as a run's last checkpoints."""
    from groundup.pipeline import merge as pipeline

    made = pipeline.merge(models, out, weights)
    if as_json:
        print(json.dumps(made, ensure_ascii=False))
        return 0
    if "base" in made:
        print(f"{made['model']}: {made['base']} with the adapters of {made['merged'][0]['model']} in its weights")
        return 0
    for part in made["merged"]:
        print(f"{part['weight']:.4f}  {part['model']}")
    print(f"{made['model']}: the average of {len(made['merged'])} models")
    return 0
