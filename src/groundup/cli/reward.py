"""`groundup reward`."""

from groundup.cli import stage
from groundup.cli.stage import Asked, lora_fields, run_stage


def reward(
    model: stage.ModelArgument = None,
    pairs: stage.DataArgument = None,
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
    """Learn which of two answers people prefer: a Bradley-Terry reward model, measured on held-out pairs."""
    fields = {
        "model": model,
        "data": pairs,
        "template": template,
        "epochs": epochs,
        "budget": budget,
        "lr": lr,
    }
    fields |= lora_fields(lora, freeze, full)
    return run_stage(Asked("reward", fields, recipe, set_, out, seed, resume, as_json, nproc))
