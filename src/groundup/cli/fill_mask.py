"""`groundup fill-mask`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from groundup.cli.answers import JsonOption


def fill_mask(
    model: Annotated[Path, typer.Argument(help="A run's folder or a model folder, of the family bert.")],
    text: Annotated[str, typer.Argument(help="Text with <|mask|> or [MASK] in it, once or several times.")],
    top: Annotated[int, typer.Option(min=1, help="How many tokens to show for each gap.")] = 5,
    as_json: JsonOption = False,
) -> int:
    """Show the likeliest tokens for the gaps in a text."""
    from groundup.model.folder import load_any
    from groundup.serve.fill_mask import fill_mask as fill

    loaded = load_any(model)
    gaps = fill(loaded.model, loaded.tokenizer, text, top)
    if as_json:
        rows = [[asdict(filling) for filling in fillings] for fillings in gaps]
        print(json.dumps({"text": text, "gaps": rows}, ensure_ascii=False))
        return 0
    for number, fillings in enumerate(gaps, 1):
        print(f"gap {number}")
        for filling in fillings:
            print(f"{filling.probability:7.4f}  {filling.token!r}")
    return 0
