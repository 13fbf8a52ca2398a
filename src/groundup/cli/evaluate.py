"""`groundup eval`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's folder or a model folder.")],
    text: Annotated[
        Path | None, typer.Option(help="The text to measure, as one document. Default: the run's held-out text.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Measure bits per byte, perplexity and tokens per byte."""
    from rich.console import Console

    from groundup.pipeline.display import Display
    from groundup.pipeline.evaluate import evaluate_run

    display = Display(Console(file=sys.stderr))
    result = evaluate_run(run, text, display)
    figures = asdict(result) | {"tokens_per_byte": result.tokens / result.bytes}
    if as_json:
        print(json.dumps(figures))
        return 0
    print(f"bits per byte    {result.bits_per_byte:.4f}")
    print(f"perplexity       {result.perplexity:.2f} per token (loss {result.loss:.4f} nats)")
    print(f"tokens per byte  {figures['tokens_per_byte']:.4f} ({result.tokens:,} tokens, {result.bytes:,} bytes)")
    return 0
