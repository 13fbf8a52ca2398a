"""`groundup probe`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from groundup.cli.answers import JsonOption


def probe(
    model: Annotated[Path, typer.Argument(help="A run's folder or a model folder of any family that reads text.")],
    task: Annotated[
        str, typer.Argument(help="classify: logistic regression on frozen features; similarity: pairs of words.")
    ],
    data: Annotated[
        Path,
        typer.Option(help="Labelled texts (.jsonl, .csv, .tsv), or for similarity lines `word word score`."),
    ],
    valid: Annotated[
        Path | None,
        typer.Option(help="Examples to measure on. Default: a fifth of --data, which is not learnt from."),
    ] = None,
    labels: Annotated[
        int | None, typer.Option("--labels", min=1, help="Learn from so many examples of each label only.")
    ] = None,
    text_field: Annotated[
        str | None, typer.Option(help="The field of the text. Default: text, sentence, ...")
    ] = None,
    label_field: Annotated[
        str | None, typer.Option(help="The field of the label. Default: label, class, ...")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides the split.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: one a core.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Measure what a model has learnt of text by itself, without changing it."""
    from rich.console import Console

    from groundup.pipeline import probe as pipeline

    question = pipeline.Question(model, data, valid, labels, seed, text_field, label_field, threads)
    figures = pipeline.run(task, question, Console(stderr=True))
    if as_json:
        print(json.dumps(figures, ensure_ascii=False))
    else:
        pipeline.show(figures, Console())
    return 0
