"""`groundup grpo`."""

from typing import Annotated

import typer

from groundup.cli import stage
from groundup.cli.rollout import KlLimitOption, KlOption, KlTargetOption, RewardOption, RoundsOption, TokensOption
from groundup.cli.stage import Asked, lora_fields, run_stage


def grpo(
    policy: stage.ModelArgument = None,
    prompts: stage.DataArgument = None,
    reward: RewardOption = None,
    rounds: RoundsOption = None,
    tokens: TokensOption = None,
    group: Annotated[int | None, typer.Option(help="Answers to the same question. [8]")] = None,
    advantages: Annotated[str | None, typer.Option(help="grpo, dr-grpo or rloo. [grpo]")] = None,
    loss: Annotated[str | None, typer.Option(help="grpo, dapo or dr-grpo. [grpo]")] = None,
    kl: KlOption = None,
    kl_target: KlTargetOption = None,
    kl_limit: KlLimitOption = None,
    lora: stage.LoraOption = None,
    freeze: stage.FreezeOption = None,
    full: stage.FullOption = False,
    template: stage.TemplateOption = None,
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
    """Learn from a reward by how several answers to one question compare; no critic."""
    fields = {
        "model": policy,
        "data": prompts,
        "reward": reward,
        "rounds": rounds,
        "tokens": tokens,
        "group": group,
        "advantages": advantages,
        "loss": loss,
        "kl": kl,
        "kl_target": kl_target,
        "kl_limit": kl_limit,
        "template": template,
        "budget": budget,
        "lr": lr,
    }
    fields |= lora_fields(lora, freeze, full)
    return run_stage(Asked("grpo", fields, recipe, set_, out, seed, resume, as_json, nproc))
