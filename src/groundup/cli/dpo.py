"""`groundup dpo`."""

from typing import Annotated

import typer

from groundup.cli import stage
from groundup.cli.stage import Asked, lora_fields, run_stage


def dpo(
    policy: stage.ModelArgument = None,
    pairs: stage.DataArgument = None,
    loss: Annotated[str | None, typer.Option(help="sigmoid, ipo, kto or simpo. [sigmoid]")] = None,
    beta: Annotated[
        float | None, typer.Option(help="How dear it is to leave the reference. [0.1, of simpo 2]")
    ] = None,
    lora: stage.LoraOption = None,
    freeze: stage.FreezeOption = None,
    full: stage.FullOption = False,
    template: stage.TemplateOption = None,
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
    """Learn from preferences directly, without a reward model."""
    fields = {
        "model": policy,
        "data": pairs,
        "loss": loss,
        "beta": beta,
        "template": template,
        "epochs": epochs,
        "budget": budget,
        "lr": lr,
    }
    fields |= lora_fields(lora, freeze, full)
    return run_stage(Asked("dpo", fields, recipe, set_, out, seed, resume, as_json, nproc))
