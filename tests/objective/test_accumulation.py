"""A step's gradient does not depend on how it is divided into micro-batches, whatever is learnt.

KTO alone estimates something from a whole batch; its stage refuses to divide one.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from groundup.model.actor_critic import ActorCritic
from groundup.model.reward import RewardModel
from groundup.objective import Objective, Setting, turns
from groundup.objective.bradley_terry import bradley_terry
from groundup.objective.policy import PolicyBatch, grpo, ppo
from groundup.objective.preference import collate, preference, sequence_log_probs
from groundup.recipe import TrainRecipe
from groundup.recipe_stages import DpoRecipe, GrpoRecipe, PolicyRecipe, PpoRecipe
from groundup.train.step import TrainStep

from .answers import answers
from .rows import preference_rows, tiny

Case = tuple[nn.Module, Objective, Any]


def _preference(loss: str) -> Case:
    rows = preference_rows(8)
    with torch.no_grad():
        reference = sequence_log_probs(tiny(5), collate(rows)).flip(0)
    return tiny(), preference(DpoRecipe(loss=loss), reference), rows


def _policy(make: Callable[..., Objective], model: nn.Module, settings: PolicyRecipe) -> Case:
    batch = answers(8, settings)

    def look_up(windows: Any) -> PolicyBatch:
        rows = torch.from_numpy(windows[:, 0])
        return replace(batch, **{name: value[rows] for name, value in vars(batch).items()})

    return model, make(settings, look_up), np.arange(8)[:, None]


CASES: dict[str, Callable[[], Case]] = {
    "supervised": lambda: (tiny(), turns.supervised(Setting()), preference_rows(8)[:, 0]),
    "reward": lambda: (RewardModel(tiny()), bradley_terry(), preference_rows(8)),
    **{loss: lambda loss=loss: _preference(loss) for loss in ("sigmoid", "ipo", "simpo")},  # type: ignore[misc]
    "ppo": lambda: _policy(ppo, ActorCritic(tiny()), PpoRecipe()),
    **{
        loss: lambda loss=loss: _policy(grpo, tiny(), GrpoRecipe(loss=loss))  # type: ignore[misc]
        for loss in ("grpo", "dapo", "dr-grpo")
    },
}


def _step(case: Case, micro_batch: int) -> tuple[float, list[Tensor]]:
    model, objective, rows = case
    settings = TrainRecipe(batch_size=8, micro_batch=micro_batch, compile="off")
    step = TrainStep(model, objective, settings, precision="fp32", device="cpu")
    loss, _ = step.accumulate(rows)
    return loss, [torch.zeros(()) if weight.grad is None else weight.grad for weight in model.parameters()]


@pytest.mark.parametrize("name", CASES)
def test_one_micro_batch_of_8_is_four_of_2_and_eight_of_1(name: str) -> None:
    # Rewards are compared in float32, all else is in float64.
    tolerance = 1e-6 if name == "reward" else 1e-11
    whole_loss, whole = _step(CASES[name](), 8)
    assert any(gradient.abs().max() > 1e-3 for gradient in whole)
    for size in (2, 1):
        loss, gradients = _step(CASES[name](), size)
        assert loss == pytest.approx(whole_loss, abs=tolerance)
        for mine, theirs in zip(gradients, whole, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5 if name == "reward" else 1e-9, atol=tolerance)
