"""`groundup finetune`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from groundup.cli.answers import JsonOption


def finetune(
    model: Annotated[Path, typer.Argument(help="A run's folder or a model folder of any family that reads text.")],
    data: Annotated[
        Path,
        typer.Option(help="Examples to learn from: .jsonl or .tsv (labels also .csv), as they are or compressed."),
    ],
    task: Annotated[str, typer.Option(help="What is learnt: classify or translate.")] = "classify",
    valid: Annotated[
        Path | None,
        typer.Option(help="Examples to measure on. Default: a part of --data (a fifth; of pairs 2 %)."),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(
            help="What keeps its weights: all, embeddings, first:N (blocks) or none. Repeat it to compare. [none]"
        ),
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Also train the same model from random weights.")
    ] = False,
    labels: Annotated[
        int | None, typer.Option("--labels", min=1, help="Learn from so many examples of each label only.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the examples.")] = 5,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after so many epochs without a better accuracy; keep the best epoch."),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(min=1e-9, help="Peak learning rate. Default: by what is trained.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples a step.")] = 32,
    pooling: Annotated[
        Literal["mean", "last"], typer.Option(help="How a text's tokens become one vector.")
    ] = "mean",
    text_field: Annotated[
        str | None, typer.Option(help="The field of the text. Default: text, sentence, ...")
    ] = None,
    label_field: Annotated[
        str | None, typer.Option(help="The field of the label. Default: label, class, ...")
    ] = None,
    source_field: Annotated[str | None, typer.Option(help="Of pairs: the field of the text that is read.")] = None,
    target_field: Annotated[
        str | None, typer.Option(help="Of pairs: the field of the text to be written.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides the split, the order and the head's dropout.")] = 0,
    out: Annotated[Path | None, typer.Option(help="A folder for the best one.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: one a core.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Teach a pretrained model a task of its own; frozen, whole and from scratch side by side."""
    from rich.console import Console

    from groundup.pipeline import finetune as pipeline
    from groundup.tune.finetune import FinetuneSettings

    settings = FinetuneSettings(
        epochs=epochs, lr=lr, batch_size=batch_size, patience=patience, pooling=pooling, seed=seed
    )
    question = pipeline.Question(
        model,
        data,
        valid,
        freeze or [],
        from_scratch,
        labels,
        settings,
        out,
        text_field,
        label_field,
        source_field,
        target_field,
        threads,
    )
    figures = pipeline.run(task, question, Console(stderr=True))
    if as_json:
        print(json.dumps(figures, ensure_ascii=False))
    else:
        pipeline.show(figures, Console())
    if figures["signal"] is None:
        return 0
    print("stopped; the figures are of what was learnt so far", file=sys.stderr)
    return 128 + int(figures["signal"])
