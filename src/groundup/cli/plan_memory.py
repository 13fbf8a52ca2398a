"""`groundup plan memory`."""

from typing import Annotated, Literal

import typer

from groundup.cli.answers import ExplainOption, HtmlOption, JsonOption, give
from groundup.errors import UserError


def memory(
    params: Annotated[str | None, typer.Option(metavar="SIZE", help="The model by its size, such as 7B.")] = None,
    shape: Annotated[
        str | None, typer.Option(metavar="NAME|FIELDS", help="The model by name, or layers=32,width=4096,...")
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="What is kept of each parameter: bf16, fp32, 8bit-adam, ...")
    ] = "bf16",
    hardware: Annotated[str, typer.Option(help="The devices, such as h100 or a100x64.")] = "h100",
    gpus: Annotated[
        int | None, typer.Option(min=1, help="How many devices; unset: what the sizes make up.")
    ] = None,
    dp: Annotated[int | None, typer.Option(min=1, help="Data parallel; unset: what the others leave.")] = None,
    tp: Annotated[int, typer.Option(min=1, help="Tensor parallel.")] = 1,
    pp: Annotated[int, typer.Option(min=1, help="Pipeline stages.")] = 1,
    cp: Annotated[int, typer.Option(min=1, help="Context parallel.")] = 1,
    zero: Annotated[int, typer.Option(min=0, max=3, help="ZeRO stage.")] = 0,
    recompute: Annotated[
        Literal["none", "selective", "full"], typer.Option(help="What is computed again.")
    ] = "none",
    micro_batch: Annotated[int, typer.Option(min=1, help="Sequences at once; for inference, all of them.")] = 1,
    accumulation: Annotated[
        int | None, typer.Option(min=1, help="Micro-batches a step; unset: enough to fill the pipeline.")
    ] = None,
    seq: Annotated[int | None, typer.Option(min=1, help="Tokens a sequence; unset: the model's context.")] = None,
    schedule: Annotated[Literal["gpipe", "1f1b", "interleaved"], typer.Option(help="Of the pipeline.")] = "1f1b",
    virtual_stages: Annotated[
        int, typer.Option(min=1, help="Parts on each device of an interleaved pipeline.")
    ] = 1,
    sequence: Annotated[bool, typer.Option(help="Sequence parallelism within the tensor group.")] = True,
    flash: Annotated[bool, typer.Option(help="Fused attention, which does not keep scores.")] = True,
    inference: Annotated[
        bool, typer.Option("--inference", help="Serve the model instead of training it.")
    ] = False,
    weight_bits: Annotated[int, typer.Option(min=1, help="Of a weight, for inference.")] = 16,
    cache_bits: Annotated[int, typer.Option(min=1, help="Of a cached key or value, for inference.")] = 16,
    explain: ExplainOption = None,
    html: HtmlOption = None,
    as_json: JsonOption = False,
) -> int:
    """How much memory a device needs, what takes it, and what would make it fit."""
    from groundup.plan.cluster.devices import parse_hardware
    from groundup.plan.models import parse_shape

    model, cluster = parse_shape(params, shape, seq, None), parse_hardware(hardware)
    if inference:
        if pp > 1 or cp > 1 or zero or gpus not in (None, tp):
            raise UserError("--inference divides a model by --tp alone; leave --gpus, --pp, --cp and --zero out")
        from groundup.plan.cluster.inference_answer import inference_answer

        answer = inference_answer(
            model, cluster.device, micro_batch, tensor=tp, weight_bits=weight_bits, cache_bits=cache_bits
        )
        return give(answer, as_json=as_json, explain=explain, html=html)

    from groundup.plan.cluster.memory_answer import MemoryQuestion, arrange, count_of, memory_answer
    from groundup.plan.cluster.states import state_recipe

    layout = arrange(
        count_of(cluster, gpus),
        dp,
        tensor=tp,
        pipeline=pp,
        context=cp,
        zero=zero,
        recompute=recompute,
        micro_batch=micro_batch,
        accumulation=accumulation or pp * virtual_stages,
        schedule=schedule,
        virtual_stages=virtual_stages,
        sequence=sequence,
    )
    answer = memory_answer(MemoryQuestion(model, layout, state_recipe(recipe), cluster.device, flash))
    return give(answer, as_json=as_json, explain=explain, html=html)
