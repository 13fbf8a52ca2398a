"""How much better than expected an answer, or each of its tokens, turned out: what a policy learns from."""

from collections.abc import Callable

import torch
from torch import Tensor

from groundup.errors import UserError, nearest

# What keeps a division by a deviation of nothing finite: as in TRL, of groups and of whole batches.
_LEAST_DEVIATION, _LEAST_VARIANCE = 1e-4, 1e-8


def token_rewards(
    scores_B: Tensor, log_probs_BT: Tensor, reference_log_probs_BT: Tensor, counted_BT: Tensor, beta: float
) -> Tensor:
    """The reward of each token (B, T): minus beta a nat away from the reference, and at the last one the score.

    The KL divergence is estimated by the difference of log-probabilities (Ziegler et al. 2019, arXiv:1909.08593).
    """
    rewards_BT = beta * (reference_log_probs_BT - log_probs_BT).where(counted_BT, 0.0)
    is_last_BT = counted_BT & (counted_BT.flip(1).cumsum(1).flip(1) == 1)
    return rewards_BT + scores_B[:, None] * is_last_BT


def gae(
    rewards_BT: Tensor, values_BT: Tensor, counted_BT: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2015, arXiv:1506.02438): advantages and returns (B, T).

    `values_BT` are those before each token. Tokens that do not count are passed over, and behind the last one that
    does there is nothing to expect, also where the answer was cut off. Both are 0 where no token counts.
    """
    advantages_BT = torch.zeros_like(rewards_BT)
    advantage_B, next_value_B = torch.zeros_like(rewards_BT[:, 0]), torch.zeros_like(values_BT[:, 0])
    for t in reversed(range(rewards_BT.shape[1])):
        surprise_B = rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t]
        counts_B = counted_BT[:, t]
        advantage_B = torch.where(counts_B, surprise_B + gamma * gae_lambda * advantage_B, advantage_B)
        next_value_B = torch.where(counts_B, values_BT[:, t], next_value_B)
        advantages_BT[:, t] = advantage_B.where(counts_B, 0.0)
    return advantages_BT, (advantages_BT + values_BT).where(counted_BT, 0.0)


def group_advantages(name: str, rewards_N: Tensor, group: int) -> Tensor:
    """The advantages (N,) of answers of which each `group` in a row are to the same question.

    `name` is one of `ESTIMATORS`; UserError with the nearest one otherwise.
    """
    if name not in ESTIMATORS:
        raise UserError(f"grpo.advantages='{name}' is unknown{nearest(name, ESTIMATORS)}")
    return ESTIMATORS[name](rewards_N.unflatten(0, (-1, group))).flatten()


def _grpo(rewards_QG: Tensor) -> Tensor:
    """In deviations from the group's mean (Shao et al. 2024, arXiv:2402.03300)."""
    return _dr_grpo(rewards_QG) / (rewards_QG.std(1, keepdim=True) + _LEAST_DEVIATION)


def _dr_grpo(rewards_QG: Tensor) -> Tensor:
    """Less the group's mean, whatever the question's difficulty (Liu et al. 2025, arXiv:2503.20783)."""
    return rewards_QG - rewards_QG.mean(1, keepdim=True)


def _rloo(rewards_QG: Tensor) -> Tensor:
    """Less the mean of the group's other answers (Ahmadian et al. 2024, arXiv:2402.14740)."""
    group = rewards_QG.shape[1]
    return _dr_grpo(rewards_QG) * (group / (group - 1))


# To add one, write what it makes of the rewards (questions, answers to each), and add its line.
ESTIMATORS: dict[str, Callable[[Tensor], Tensor]] = {"grpo": _grpo, "dr-grpo": _dr_grpo, "rloo": _rloo}


def whitened(values_BT: Tensor, counted_BT: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Those that count with variance 1, and mean 0 or the mean that they had (B, T); 0 where nothing counts.

    The variance is the sample's, with one less than their number. A single value has no deviation to divide by.
    """
    values_N = values_BT[counted_BT]
    if len(values_N) < 2:
        return values_BT.where(counted_BT, 0.0)
    variance, mean = torch.var_mean(values_N)
    whitened_BT = (values_BT - mean) * (variance + _LEAST_VARIANCE).rsqrt()
    return (whitened_BT if shift_mean else whitened_BT + mean).where(counted_BT, 0.0)


def explained_variance(values_BT: Tensor, returns_BT: Tensor, counted_BT: Tensor) -> float:
    """The share of the returns' variance that a critic foresaw: 1 is all, 0 no more than their mean."""
    returns_N, errors_N = returns_BT[counted_BT], (returns_BT - values_BT)[counted_BT]
    variance = returns_N.var(correction=0)
    return float(1 - errors_N.var(correction=0) / variance) if variance > 0 else 0.0
