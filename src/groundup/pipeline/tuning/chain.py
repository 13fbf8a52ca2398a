"""A chain of stages, each on what the one before has made: pretrain, sft, reward, ppo, ...

The chain's folder has the whole recipe; each stage is a run of its own below it, so that each can be looked at,
continued and used. In the end the chain's `model/` is that of its last policy.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groundup.clock import Clock
from groundup.errors import UserError
from groundup.files import folder_atomically
from groundup.pipeline.build import build, check_recipe, resume
from groundup.pipeline.display import Display
from groundup.pipeline.numbers import seconds_text
from groundup.pipeline.tuning.run import check, resume_tuning, tune, with_whole_paths
from groundup.recipe import Recipe
from groundup.recipe_stages import RolloutRecipe, Stage, TuneRecipe
from groundup.run import Run

_PRETRAIN: Stage = "pretrain"
_REWARD: Stage = "reward"
# What a chain learns from where nothing else is named.
_DEMOS = {
    "sft": "demo:instructions",
    "reward": "demo:preferences",
    "dpo": "demo:preferences",
    "ppo": "demo:prompts",
    "grpo": "demo:prompts",
    "reject": "demo:prompts",
}


def build_chain(recipe: Recipe, folder: Path, display: Display, started: float | None = None) -> dict[str, Any]:
    """Take a recipe through all of its stages in a new folder; the outcomes of all."""
    recipe = with_whole_paths(recipe)
    for number, stage in enumerate(recipe.stages):
        _check_stage(_recipe_of(recipe, folder, number), stage)
    clock = Clock(started)
    run = Run.create(folder, recipe)
    try:
        return _carry_on(run, clock, display, started)
    except UserError:
        if not any((folder / stage).exists() for stage in recipe.stages):
            run.discard()
        raise


def resume_chain(run: Run, display: Display, started: float | None = None) -> dict[str, Any]:
    """Continue with the first stage that is not finished."""
    if run.finished:
        display.say(f"{run.folder} is finished; there is nothing to resume")
        return run.read_json(run.outcome_file)
    return _carry_on(run, Clock(started), display, started)


def _carry_on(run: Run, clock: Clock, display: Display, started: float | None) -> dict[str, Any]:
    recipe = run.recipe
    outcomes: dict[str, Any] = {}
    with run.locked():
        for number, stage in enumerate(recipe.stages):
            display.say(f"stage {number + 1} of {len(recipe.stages)}: {stage}", style="bold")
            # The budget's clock runs from the start of the command for the first stage only.
            began = started if number == 0 else None
            outcomes[stage] = _stage(_recipe_of(recipe, run.folder, number), run.folder / stage, display, began)
            clock.lap(stage)
        policies = [stage for stage in recipe.stages if stage != _REWARD]
        if policies:
            with folder_atomically(run.model) as temporary:
                shutil.copytree(run.folder / policies[-1] / "model", temporary, dirs_exist_ok=True)
        seconds = clock.elapsed()
        outcome = {
            "run": str(run.folder),
            "stages": outcomes,
            "seconds": dict(clock.stages),
            "total_seconds": seconds,
        }
        run.save_outcome(outcome)
    display.say(f"{len(recipe.stages)} stages in {seconds_text(seconds)}", style="bold")
    if policies:
        display.say(f"model   {run.model}")
    return outcome


def _stage(recipe: Recipe, folder: Path, display: Display, started: float | None) -> dict[str, Any]:
    """One stage's run, wherever it stands."""
    display.log = lambda _: None  # the run itself says where its lines go
    pretrains, is_there = recipe.stage == _PRETRAIN, (folder / "recipe.toml").is_file()
    if is_there:
        return (resume if pretrains else resume_tuning)(Run.open(folder), display, started)
    return (build if pretrains else tune)(recipe, folder, display, started)


def _check_stage(recipe: Recipe, stage: Stage) -> None:
    if stage == _PRETRAIN:
        check_recipe(recipe)
    else:
        check(recipe)


def _recipe_of(recipe: Recipe, folder: Path, number: int) -> Recipe:
    """The recipe of one stage of the chain: its model and its judge are what earlier stages have made."""
    stages = recipe.stages
    stage = stages[number]
    if stages.count(stage) > 1 or (stage == _PRETRAIN and number):
        raise UserError(
            f"--stages {','.join(stages)}: name each stage once, pretrain first; "
            "a second round of a stage is a run of its own"
        )
    own = recipe.model_copy(deep=True, update={"stage": stage, "stages": []})
    if stage == _PRETRAIN:
        return own
    section: TuneRecipe = getattr(own, stage)
    earlier = list(stages[:number])
    section.model = section.model or _policy(folder, earlier)
    section.data = section.data or [_DEMOS[stage]]
    if isinstance(section, RolloutRecipe) and section.reward is None and _REWARD in earlier:
        section.reward = str(folder / _REWARD)
    return own


def _policy(folder: Path, earlier: Sequence[Stage]) -> str | None:
    """The last stage before that made a policy."""
    made = [stage for stage in earlier if stage != _REWARD]
    return str(folder / made[-1]) if made else None
