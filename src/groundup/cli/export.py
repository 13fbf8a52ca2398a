"""`groundup export`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def export(
    source: Annotated[
        Path, typer.Argument(metavar="RUN_OR_CHECKPOINT", help="A run's folder, or RUN/checkpoints/step-N.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The model folder to write.")],
    checkpoint: Annotated[
        int | None, typer.Option(metavar="N", help="The checkpoint of step N. Default: the newest intact one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Write the model of a checkpoint as a Hugging Face folder, also while its run is going on."""
    from rich.console import Console

    from groundup.pipeline import export as pipeline
    from groundup.pipeline.display import Display

    display = Display(Console(file=sys.stderr))
    exported = pipeline.export(source, out, checkpoint, display.warn)
    if as_json:
        print(json.dumps(exported, ensure_ascii=False))
        return 0
    print(f"{exported['model']}: the model after {exported['steps']:,} steps, from {exported['checkpoint']}")
    return 0
