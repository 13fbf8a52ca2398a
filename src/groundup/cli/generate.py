"""`groundup generate`."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def generate(
    run: Annotated[Path, typer.Argument(help="A run's folder or a model folder.")],
    prompt: Annotated[
        str | None, typer.Option(help="What to continue; without it, each line of standard input.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="At most this many tokens.")] = 200,
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest token; 1 the model's own chances.")
    ] = 0.8,
    top_k: Annotated[int, typer.Option(help="Choose among the k likeliest tokens; 0: all.")] = 50,
    top_p: Annotated[float, typer.Option(help="Choose among the likeliest tokens that together have p.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed writes the same text.")] = 1,
) -> int:
    """Let a model write, token by token."""
    from groundup.model.folder import load
    from groundup.serve.generate import generate_text
    from groundup.serve.sampling import Sampling

    sampling = Sampling(temperature, top_k, top_p)
    loaded = load(run)
    asked = [prompt] if prompt is not None else (line.rstrip("\n") for line in sys.stdin)
    for question in asked:
        sys.stdout.write(question)
        for piece in generate_text(loaded.model, loaded.tokenizer, question, max_tokens, sampling, seed):
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
    return 0
