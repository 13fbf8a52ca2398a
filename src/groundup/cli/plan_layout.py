"""`groundup plan layout`."""

from pathlib import Path
from typing import Annotated

import typer

from groundup.cli.answers import ExplainOption, HtmlOption, JsonOption, give
from groundup.errors import UserError


def layout(
    hardware: Annotated[str, typer.Option(help="Devices such as h100x512 or a100x64.")],
    global_batch: Annotated[
        str, typer.Option(metavar="TOKENS|SEQUENCES", help="A step's batch: 4Mtok, or 1024 sequences.")
    ],
    params: Annotated[str | None, typer.Option(help="The model's size, such as 70B.")] = None,
    shape: Annotated[str | None, typer.Option(help="Or its shape: llama3-8b, or layers=32,width=4096,...")] = None,
    seq: Annotated[
        int | None, typer.Option(min=1, help="Tokens a sequence. Default: the model's context.")
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="What is kept of each parameter: bf16-main-grads, bf16, fp32, 8bit-adam, ...")
    ] = "bf16-main-grads",
    fix: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FACTOR=VALUE", help="Fix a factor: tensor=8, zero=1, recompute=full; may be repeated."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many layouts to show.")] = 10,
    price: Annotated[float | None, typer.Option(min=0, help="US dollars an hour for each device.")] = None,
    emit: Annotated[
        str | None, typer.Option(metavar="torchrun|slurm|sky|k8s", help="Write a launch file for the best layout.")
    ] = None,
    train: Annotated[
        str, typer.Option(metavar="RECIPE", help="The recipe that the launch file trains.")
    ] = "default",
    out: Annotated[Path | None, typer.Option(help="Where the launch file goes. Default: standard output.")] = None,
    explain: ExplainOption = None,
    html: HtmlOption = None,
    as_json: JsonOption = False,
) -> int:
    """Rank the ways to lay a model and its batch out over many devices, by predicted throughput."""
    if out and not emit:
        raise UserError("--out says where a launch file goes; give --emit with it")
    from dataclasses import replace

    from groundup.files import write_atomically
    from groundup.plan.cluster.launch import emit as launch_file
    from groundup.plan.cluster.layout_answer import layout_answer
    from groundup.plan.cluster.layout_question import parse_question
    from groundup.plan.figures import Figure

    question = parse_question(params, shape, seq, hardware, global_batch, recipe, fix or [], top, price)
    candidates = question.search(question.limit)
    answer = layout_answer(question, candidates)
    if emit:
        text = launch_file(emit, candidates[0].layout, question.cluster, train)
        if out:
            write_atomically(out, text)
            answer = replace(answer, notes=[*answer.notes, f"launch file: {out}"])
        elif as_json:
            answer = replace(answer, figures=[*answer.figures, Figure("launch_file", "launch file", text)])
        else:
            print(text, end="")
            return 0
    return give(answer, as_json=as_json, explain=explain, html=html)
