"""`groundup reject`."""

from typing import Annotated

import typer

from groundup.cli import stage
from groundup.cli.rollout import RewardOption, RoundsOption, TokensOption
from groundup.cli.stage import Asked, follow, lora_fields, recipe_of, run_stage
from groundup.errors import UserError


def reject(
    policy: stage.ModelArgument = None,
    prompts: stage.DataArgument = None,
    reward: RewardOption = None,
    best_of: Annotated[
        int | None, typer.Option(help="Answers to a question, of which the best is kept. [8]")
    ] = None,
    rounds: RoundsOption = None,
    tokens: TokensOption = None,
    epochs: stage.EpochsOption = None,
    sample_only: Annotated[
        bool, typer.Option("--sample-only", help="Write the best answers to --out FILE.jsonl; learn nothing.")
    ] = False,
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
    """Imitate the best of several answers of one's own (best of n, expert iteration)."""
    fields = {
        "model": policy,
        "data": prompts,
        "reward": reward,
        "best_of": best_of,
        "rounds": rounds,
        "tokens": tokens,
        "epochs": epochs,
        "template": template,
        "budget": budget,
        "lr": lr,
    }
    fields |= lora_fields(lora, freeze, full)
    asked = Asked("reject", fields, recipe, set_, out, seed, resume, as_json, nproc)
    if not sample_only:
        return run_stage(asked)
    if out is None or resume:
        raise UserError("--sample-only writes a file at once; give it --out FILE.jsonl, and no --resume")
    if nproc and nproc > 1:
        raise UserError("--sample-only answers in one process; leave --nproc out")
    loaded = recipe_of(asked)

    from groundup.pipeline.tuning.reject import sample_only as write

    return follow(lambda display: write(loaded, out, display), "the same", as_json)
