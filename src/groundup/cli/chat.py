"""`groundup chat`."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def chat(
    model: Annotated[Path, typer.Argument(help="A run's folder or a model folder that was taught to answer.")],
    system: Annotated[str | None, typer.Option(help="An instruction that stands before the conversation.")] = None,
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest token; 1 the model's own chances.")
    ] = 0.7,
    top_k: Annotated[int, typer.Option(help="Choose among the k likeliest tokens; 0: all.")] = 50,
    top_p: Annotated[float, typer.Option(help="Choose among the likeliest tokens that together have p.")] = 0.95,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of an answer.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same answers.")] = 1,
    page: Annotated[bool, typer.Option("--page", help="Chat on a page instead of here.")] = False,
    host: Annotated[str, typer.Option(help="With --page: 0.0.0.0 lets other machines reach it.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --page: another is taken if it is.")] = 8766,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="With --page: open it.")] = True,
) -> int:
    """Talk to a model, here or on a page; each line of a pipe is a turn."""
    from groundup.pipeline import chat as pipeline
    from groundup.serve.chat import AnswerSettings
    from groundup.serve.sampling import Sampling

    settings = AnswerSettings(Sampling(temperature, top_k, top_p), max_tokens, seed)
    opened = pipeline.open_chat(model)
    if not page:
        pipeline.talk(opened, settings, system)
        return 0
    from groundup.studio.chat.app import chat_app
    from groundup.studio.local import serve

    app = chat_app(opened, host, settings, system or "")
    serve(app, host, port, browser=browser, say=lambda line: print(line, file=sys.stderr))
    print("stopped", file=sys.stderr)
    return 0
