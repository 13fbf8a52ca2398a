"""`groundup sft`."""

from typing import Annotated

import typer

from groundup.cli import stage
from groundup.cli.stage import Asked, lora_fields, run_stage


def sft(
    model: stage.ModelArgument = None,
    data: stage.DataArgument = None,
    lora: stage.LoraOption = None,
    freeze: stage.FreezeOption = None,
    full: stage.FullOption = False,
    template: stage.TemplateOption = None,
    packing: Annotated[
        bool | None, typer.Option("--packing/--no-packing", help="Several conversations in a window. [packing]")
    ] = None,
    epochs: stage.EpochsOption = None,
    budget: stage.BudgetOption = None,
    lr: stage.LrOption = None,
    recipe: stage.RecipeOption = "default",
    set_: stage.SetOption = None,
    out: stage.OutOption = None,
    seed: stage.SeedOption = None,
    nproc: stage.NprocOption = None,
    resume: stage.ResumeOption = False,
    as_json: stage.JsonOption = False,
) -> int:
    """Teach a base model to answer: supervised fine-tuning on conversations, on the assistant's words only."""
    fields = {
        "model": model,
        "data": data,
        "template": template,
        "packing": packing,
        "epochs": epochs,
        "budget": budget,
        "lr": lr,
    }
    fields |= lora_fields(lora, freeze, full)
    return run_stage(Asked("sft", fields, recipe, set_, out, seed, resume, as_json, nproc))
