"""`groundup feedback`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from groundup.cli.answers import JsonOption
from groundup.errors import UserError


def feedback(
    source: Annotated[
        Path,
        typer.Argument(
            help="A model that answers, a file of ready answers (.jsonl), or a feedback file to go on with."
        ),
    ],
    prompts: Annotated[
        str | None, typer.Argument(help="What to ask the model: a .jsonl or .parquet file, hf:NAME or demo:NAME.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where judgements go; one that is there is gone on with.")] = Path(
        "feedback.sqlite"
    ),
    export: Annotated[Path | None, typer.Option(help="Write the pairs of a feedback file to this .jsonl.")] = None,
    majority: Annotated[
        bool, typer.Option("--majority", help="With --export: one pair, as most raters prefer it.")
    ] = False,
    summary: Annotated[
        bool, typer.Option("--summary", help="Only say how much was judged, and how far raters agree.")
    ] = False,
    rate: Annotated[
        bool, typer.Option("--rate", help="Let each answer be rated 1 to 5 instead of a choice.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many prompts.")] = None,
    answers: Annotated[int, typer.Option(min=2, max=4, help="So many answers to a prompt.")] = 2,
    temperature: Annotated[float, typer.Option(help="Of the answers; 1: the model's own chances.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Choose among the k likeliest tokens; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Choose among the likeliest tokens that together have p.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of an answer.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Decides answers and the order in which they are shown.")] = 1,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines reach the page.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Another is taken if this one is.")] = 8765,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    as_json: JsonOption = False,
) -> int:
    """Let people choose the better of two answers, on a page; make pairs of it to learn from."""
    from groundup.pipeline import feedback as pipeline
    from groundup.serve.sampling import Sampling

    if majority and export is None:
        raise UserError("--majority goes with --export FILE")
    if export is not None or summary:
        if prompts is not None:
            raise UserError("--export and --summary take a feedback file alone")
        figures = pipeline.export(source, export, majority) if export is not None else {}
        figures |= pipeline.sum_up(source) if summary else {}
        if as_json:
            print(json.dumps(figures, ensure_ascii=False))
            return 0
        if export is not None:
            undecided = f", {figures['undecided']} pairs of answers without a majority" if majority else ""
            print(f"{figures['pairs']} pairs in {export}; {figures['ties']} judgements without one{undecided}")
        for line in pipeline.told(figures) if summary else ():
            print(line)
        return 0
    from groundup.studio.feedback.app import feedback_app
    from groundup.studio.local import serve

    settings = pipeline.FeedbackSettings(
        "rating" if rate else "choice", answers, Sampling(temperature, top_k, top_p), max_tokens, seed, limit
    )
    with pipeline.opened(source, prompts, out, settings) as judged:
        app = feedback_app(judged.store, host, lambda: judged.failure)
        serve(app, host, port, browser=browser, say=lambda line: print(line, file=sys.stderr))
        print(f"stopped; the judgements are in {judged.store.path}", file=sys.stderr)
    return 0
