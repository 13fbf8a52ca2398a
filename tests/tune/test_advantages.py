import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from groundup.errors import UserError
from groundup.tune.advantages import (
    ESTIMATORS,
    explained_variance,
    gae,
    group_advantages,
    token_rewards,
    whitened,
)


def _drawn(rows: int, length: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    rewards, values = (torch.randn(rows, length, generator=random, dtype=torch.float64) for _ in range(2))
    return rewards, values, torch.rand(rows, length, generator=random) < 0.6


def _gae_by_hand(
    rewards: list[float], values: list[float], gamma: float, gae_lambda: float
) -> tuple[list[float], list[float]]:
    """Schulman et al. 2015, equation 16: the sum of (gamma lambda)^l delta_{t+l}, over an answer's own tokens."""
    deltas = [
        reward + gamma * following - value
        for reward, value, following in zip(rewards, values, [*values, 0.0][1:], strict=True)
    ]
    advantages = [
        sum((gamma * gae_lambda) ** step * delta for step, delta in enumerate(deltas[t:]))
        for t in range(len(deltas))
    ]
    return advantages, [advantage + value for advantage, value in zip(advantages, values, strict=True)]


@settings(max_examples=30, deadline=None)
@given(
    length=st.integers(1, 8), gamma=st.floats(0.5, 1.0), gae_lambda=st.floats(0.0, 1.0), seed=st.integers(0, 99)
)
def test_advantages_and_returns_are_the_papers_sums(
    length: int, gamma: float, gae_lambda: float, seed: int
) -> None:
    """Also where what counts has gaps, as between the turns of a conversation."""
    rewards, values, counted = _drawn(3, length, seed)
    advantages, returns = gae(rewards, values, counted, gamma, gae_lambda)
    for row in range(3):
        places = counted[row]
        expected = _gae_by_hand(rewards[row, places].tolist(), values[row, places].tolist(), gamma, gae_lambda)
        assert advantages[row, places].tolist() == pytest.approx(expected[0], abs=1e-12)
        assert returns[row, places].tolist() == pytest.approx(expected[1], abs=1e-12)
    assert not advantages[~counted].any() and not returns[~counted].any()


def test_without_discount_returns_are_what_is_still_to_come() -> None:
    rewards, values, _ = _drawn(2, 5)
    _, returns = gae(rewards, values, torch.ones(2, 5, dtype=torch.bool), 1.0, 1.0)
    torch.testing.assert_close(returns, rewards.flip(1).cumsum(1).flip(1))


def test_the_score_comes_with_the_last_token_and_every_nat_costs() -> None:
    own, reference = torch.tensor([[-1.0, -2.0, -3.0, 0.0]]), torch.tensor([[-1.5, -1.0, -3.0, 9.0]])
    counted = torch.tensor([[True, True, True, False]])
    found = token_rewards(torch.tensor([10.0]), own, reference, counted, beta=0.2)
    torch.testing.assert_close(found, torch.tensor([[-0.1, 0.2, 10.0, 0.0]]))
    divergence = (own - reference)[counted].sum()
    torch.testing.assert_close(found.sum(), 10.0 - 0.2 * divergence)


def _trls_advantages(name: str, rewards_QG: Tensor) -> Tensor:
    """Written after trl 1.16, grpo_trainer.py line 2785 and rloo_trainer.py line 1688, with its own nanstd."""
    from trl.trainer.utils import nanstd

    mean = torch.nanmean(rewards_QG, dim=1, keepdim=True)
    if name == "rloo":
        others = rewards_QG.nansum(dim=1, keepdim=True) - rewards_QG
        return rewards_QG - others / (rewards_QG.shape[1] - 1)
    advantages = rewards_QG - mean
    return advantages if name == "dr-grpo" else advantages / (nanstd(rewards_QG, dim=1)[:, None] + 1e-4)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_advantages_in_a_group_are_trls(name: str) -> None:
    rewards, *_ = _drawn(4, 6)
    found = group_advantages(name, rewards.flatten(), 6)
    torch.testing.assert_close(found, _trls_advantages(name, rewards).flatten())
    torch.testing.assert_close(found.view(4, 6).sum(1), torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_equal_rewards_teach_nothing(name: str) -> None:
    assert not group_advantages(name, torch.full((8,), 3.0), 4).any()


def test_unknown_estimators_are_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"grpo.advantages='grop' is unknown; did you mean 'grpo'\?"):
        group_advantages("grop", torch.ones(4), 2)


@pytest.mark.parametrize("shift_mean", [True, False])
def test_what_counts_gets_variance_1_and_keeps_its_mean_where_asked(shift_mean: bool) -> None:
    values, _, counted = _drawn(4, 9)
    found = whitened(3 * values + 2, counted, shift_mean=shift_mean)
    kept, given_values = found[counted], (3 * values + 2)[counted]
    assert kept.var().item() == pytest.approx(1.0, abs=1e-6)
    assert kept.mean().item() == pytest.approx(0.0 if shift_mean else given_values.mean().item(), abs=1e-9)
    assert (kept.argsort() == given_values.argsort()).all() and not found[~counted].any()


def test_a_single_value_is_left_as_it_is() -> None:
    counted = torch.tensor([[True, False]])
    assert whitened(torch.tensor([[5.0, 7.0]]), counted).tolist() == [[5.0, 0.0]]


def test_explained_variance() -> None:
    _, returns, counted = _drawn(4, 9)
    assert explained_variance(returns + 5, returns, counted) == pytest.approx(1.0)
    assert explained_variance(torch.zeros_like(returns), returns, counted) == pytest.approx(0.0)
    assert explained_variance(-returns, returns, counted) == pytest.approx(-3.0)
    assert explained_variance(returns, torch.ones_like(returns), counted) == 0.0
