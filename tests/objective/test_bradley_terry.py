import pytest
import torch

from groundup.model.reward import RewardModel
from groundup.objective.bradley_terry import bradley_terry, collate, pair_rewards
from groundup.objective.statistics import Statistics

from . import trl_losses
from .rows import preference_rows, tiny


def test_loss_and_gradients_are_trls() -> None:
    rows, model, statistics = preference_rows(7), RewardModel(tiny()).train(), Statistics()
    objective = bradley_terry(statistics)
    found = objective.loss(model, objective.collate(rows, 0))
    expected = trl_losses.reward(pair_rewards(model, collate(rows)))
    # Rewards are compared in float32.
    torch.testing.assert_close(found.mean, expected, rtol=0, atol=1e-6, check_dtype=False)
    for mine, theirs in zip(
        torch.autograd.grad(found.mean, list(model.parameters())),
        torch.autograd.grad(expected, list(model.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    figures = statistics.take()
    assert figures["margin"] == pytest.approx(figures["reward_chosen"] - figures["reward_rejected"], abs=1e-6)
    assert found.num_targets == 7 and found.num_correct is None


def test_each_sequence_is_judged_at_its_own_last_token() -> None:
    rows, model = preference_rows(5), RewardModel(tiny()).eval()
    found = pair_rewards(model, collate(rows))
    for place in range(5):
        for side in range(2):
            length = int((rows[place, side, 2] >= 0).sum())
            ids = torch.from_numpy(rows[place, side, 0, :length])[None]
            alone = model.head(model.body.features(ids))[0, -1, 0]
            torch.testing.assert_close(found[place, side], alone)


def test_in_evaluation_right_pairs_are_counted() -> None:
    rows, model, statistics = preference_rows(9), RewardModel(tiny()).eval(), Statistics()
    objective = bradley_terry(statistics)
    found = objective.loss(model, objective.collate(rows, 0))
    rewards = pair_rewards(model, collate(rows))
    assert found.num_correct == int((rewards[:, 0] > rewards[:, 1]).sum())
    assert statistics.take() == {}
