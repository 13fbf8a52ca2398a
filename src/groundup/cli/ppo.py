"""`groundup ppo`."""

from typing import Annotated

import typer

from groundup.cli import stage
from groundup.cli.rollout import KlLimitOption, KlOption, KlTargetOption, RewardOption, RoundsOption, TokensOption
from groundup.cli.stage import Asked, lora_fields, run_stage


def ppo(
    policy: stage.ModelArgument = None,
    prompts: stage.DataArgument = None,
    reward: RewardOption = None,
    rounds: RoundsOption = None,
    tokens: TokensOption = None,
    kl: KlOption = None,
    kl_target: KlTargetOption = None,
    kl_limit: KlLimitOption = None,
    share_trunk: Annotated[
        bool | None,
        typer.Option("--share-trunk/--own-critic", help="Where the value head stands. [on the policy]"),
    ] = None,
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
    """Learn from a reward by proximal policy optimisation: a critic, clipped updates, a price on distance."""
    fields = {
        "model": policy,
        "data": prompts,
        "reward": reward,
        "rounds": rounds,
        "tokens": tokens,
        "kl": kl,
        "kl_target": kl_target,
        "kl_limit": kl_limit,
        "share_trunk": share_trunk,
        "template": template,
        "budget": budget,
        "lr": lr,
    }
    fields |= lora_fields(lora, freeze, full)
    return run_stage(Asked("ppo", fields, recipe, set_, out, seed, resume, as_json, nproc))
