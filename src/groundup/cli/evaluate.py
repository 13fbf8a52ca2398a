"""`groundup eval`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's folder or a model folder.")],
    others: Annotated[
        list[Path] | None,
        typer.Option("--with", metavar="MODEL", help="Predict together with this model too; may be repeated."),
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="The text to measure, as one document. Default: the run's held-out text.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Measure bits per byte, perplexity and tokens per byte; of several models, by their mean probability."""
    from rich.console import Console

    from groundup.pipeline.display import Display
    from groundup.pipeline.evaluate import evaluate_run
    from groundup.pipeline.families.evaluate import evaluate_family_run, is_family_run

    display = Display(Console(file=sys.stderr))
    if is_family_run(run) and text is None and not others:
        return _give_rows(evaluate_family_run(run, display), as_json)
    found = evaluate_run(run, text, display, others or [])
    result = found.together
    figures = asdict(result) | {"tokens_per_byte": result.tokens / result.bytes}
    members = list(zip([run, *(others or [])], found.members, strict=True))
    if as_json:
        each = [{"model": str(model), **asdict(member)} for model, member in members]
        print(json.dumps(figures | ({"members": each} if others else {})))
        return 0
    for model, member in members if others else []:
        print(f"bits per byte    {member.bits_per_byte:.4f}  {model}")
    print(f"bits per byte    {result.bits_per_byte:.4f}{'  together' if others else ''}")
    print(f"perplexity       {result.perplexity:.2f} per token (loss {result.loss:.4f} nats)")
    print(f"tokens per byte  {figures['tokens_per_byte']:.4f} ({result.tokens:,} tokens, {result.bytes:,} bytes)")
    return 0


def _give_rows(figures: dict[str, Any], as_json: bool) -> int:
    if as_json:
        print(json.dumps(figures))
        return 0
    print(f"loss      {figures['loss']:.4f} nats an answer (by rates alone {figures['baseline_loss']:.4f})")
    if figures["accuracy"] is not None:
        print(f"right     {figures['accuracy']:.1%} (the most frequent answer {figures['baseline_accuracy']:.1%})")
    print(f"answers   {figures['targets']:,}")
    return 0
