"""Expert iteration: of several answers to a question the best is kept and imitated (Anthony et al. 2017).

arXiv:1705.08439; with language models it is also called rejection sampling, or RAFT (Dong et al. 2023,
arXiv:2304.06767).
"""

import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from groundup.clock import Clock
from groundup.errors import UserError
from groundup.files import write_atomically
from groundup.objective import OBJECTIVES, Objective, Setting
from groundup.objective.base import IGNORED, Batch
from groundup.pipeline.display import Display
from groundup.pipeline.tuning.job import TuneJob
from groundup.pipeline.tuning.reinforcing import (
    Parts,
    check_groups,
    extent_of,
    learn,
    prepare,
    read_asking,
    rounds_of,
)
from groundup.pipeline.tuning.run import check
from groundup.recipe import Recipe
from groundup.recipe_stages import RejectRecipe
from groundup.run import Run
from groundup.train.device import choose_device, set_threads
from groundup.tune.rollouts import best_of_n
from groundup.tune.rounds import Round, Rounds


def carry_on(job: TuneJob, clock: Clock) -> dict[str, Any]:
    """Take the run from wherever it stands to its model; the outcome."""
    settings = job.settings_of(RejectRecipe)
    check_groups(settings, settings.best_of, "best_of")
    extent = extent_of(settings, settings.answers // settings.best_of, settings.epochs)
    parts = prepare(job, clock)
    rounds = rounds_of(parts, extent, partial(_make, parts, settings))
    objective = Objective(partial(_look_up, rounds=rounds), OBJECTIVES["supervised"](Setting()).loss)
    return learn(parts, parts.policy, objective, rounds, clock)


def sample_only(recipe: Recipe, file: Path, display: Display) -> dict[str, Any]:
    """Write the best of n answers to as many prompts as a round has, and learn nothing; the figures of those.

    A line of JSON has `messages`, the answer among them, and its `reward`: what `groundup sft` reads. UserError as
    for a run, and where the file is there already.
    """
    check(recipe)
    if file.exists():
        raise UserError(f"{file} exists already; choose another --out")
    if not file.parent.is_dir():
        raise UserError(f"there is no folder {file.parent} for {file.name}; make it, or choose another --out")
    device = choose_device(recipe.train.device)
    set_threads(recipe.train.threads)
    job = TuneJob(Run(file.parent), recipe, display, device, "fp32")
    settings = job.settings_of(RejectRecipe)
    check_groups(settings, settings.best_of, "best_of")
    asking = read_asking(job, Clock())
    questions = asking.train[: settings.answers // settings.best_of]
    kept = best_of_n(asking.writer, questions, settings.best_of, job.seed("answers"))
    rows = [
        {"messages": [*question.prompt.messages, {"role": "assistant", "content": text}], "reward": score}
        for question, _, text, score in kept.items
    ]
    write_atomically(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    display.say(
        f"{len(questions):,} answers in {file}, each the best of {settings.best_of}: reward "
        f"{kept.figures['reward']:.3f}; `groundup sft` learns from them",
        style="bold",
    )
    return {"file": str(file), "prompts": len(questions), "best_of": settings.best_of, **kept.figures}


def _make(parts: Parts, settings: RejectRecipe, number: int, before: Mapping[str, Any] | None) -> Round:
    """The best answer to each question of the round."""
    del before
    began = time.monotonic()
    rollouts = parts.answers(number, settings.best_of)
    kept = rollouts.best(settings.best_of)
    figures = {
        "round": number,
        **rollouts.figures,
        "best_reward": kept.figures["reward"],
        "kl": parts.mean_kl(rollouts),
        "seconds": time.monotonic() - began,
    }
    return Round({"targets": kept.batch.targets_BT, "inputs_BT": kept.batch.inputs_BT}, figures)


def _look_up(windows: npt.NDArray[np.int64], first: int = 0, *, rounds: Rounds) -> Batch:
    """The answers that rows mean, without the padding that all of them have."""
    del first  # nothing is drawn
    tensors = rounds.current.tensors
    inputs_BT, targets_BT = (tensors[name][torch.from_numpy(windows[:, 0])] for name in ("inputs_BT", "targets"))
    length = int((targets_BT != IGNORED).any(0).nonzero().max()) + 1
    return Batch(inputs_BT[:, :length], targets_BT[:, :length])
