"""`groundup classify`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from groundup.cli.answers import JsonOption


def classify(
    model: Annotated[Path, typer.Argument(help="A folder that `groundup finetune --task classify --out` wrote.")],
    text: Annotated[str, typer.Argument(help="What to classify; '-': each line of standard input.")],
    as_json: JsonOption = False,
) -> int:
    """Say the likeliest label of a text."""
    from groundup.tune.finetune import load_classifier

    classifier = load_classifier(model)
    texts = [line.rstrip("\n") for line in sys.stdin] if text == "-" else [text]
    labels = classifier.classify(texts) if texts else []
    print(json.dumps({"labels": labels}, ensure_ascii=False) if as_json else "\n".join(labels))
    return 0
