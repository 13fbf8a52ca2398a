"""Policies learnt from the rewards of their own answers: PPO, and the losses of groups of answers.

Schulman et al. 2017, arXiv:1707.06347; for language models Ziegler et al. 2019, arXiv:1909.08593. Answers were
written, judged and given advantages before (`tune.advantages`); here a batch of them is learnt from.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from groundup.errors import UserError, nearest
from groundup.model.actor_critic import ActorCritic
from groundup.objective.base import IGNORED, Loss, Objective, TensorBatch, Unembeds, Windows
from groundup.objective.log_probs import log_probs_and_entropy, log_probs_of
from groundup.objective.statistics import Statistics
from groundup.recipe_stages import GrpoRecipe, PolicyRecipe, PpoRecipe


@dataclass(frozen=True)
class PolicyBatch(TensorBatch):
    """Questions with their answers, and what was known of each answer's tokens before the update, all (B, T).

    At index t stands what belongs to the choice of `targets[:, t]`, the token after `inputs_BT[:, t]`; where the
    target is `IGNORED` nothing counts.

    Attributes:
        targets: int64, `IGNORED` outside of the answers.
        inputs_BT: int64.
        old_log_probs_BT: of the policy that wrote the answers, at the temperature of the recipe.
        advantages_BT: how much better than expected each token turned out.
        reference_log_probs_BT: of the reference; for losses that hold the policy near it themselves.
        old_values_BT, returns_BT: of the critic before the update, and what it should have said; for PPO.
    """

    inputs_BT: Tensor
    old_log_probs_BT: Tensor
    advantages_BT: Tensor
    reference_log_probs_BT: Tensor | None = None
    old_values_BT: Tensor | None = None
    returns_BT: Tensor | None = None

    @property
    def counted(self) -> Tensor:
        """Where an answer's tokens are, bool."""
        return self.targets != IGNORED


class AnswerBatch(PolicyBatch):
    """The same for losses that are a mean over answers: each counts the same, however long."""

    @property
    def num_targets(self) -> int:
        """How many answers there are."""
        return len(self.targets)


LookUp: TypeAlias = Callable[[Windows], PolicyBatch]
"""From the trainer's rows, which are numbers, to the answers that they mean."""
Mean: TypeAlias = Callable[[Tensor, Tensor, PolicyRecipe], Tensor]
"""From the losses of tokens (B, T) and where they count to one number."""


class PolicyLoss(NamedTuple):
    """How the losses of tokens are averaged, and the batch that counts what the mean is taken over.

    A step's micro-batches are weighed by their `num_targets`, so that they add up to the mean of the whole step.
    """

    mean: Mean
    batch: type[PolicyBatch]


def ppo(settings: PpoRecipe, look_up: LookUp, statistics: Statistics | None = None) -> Objective:
    """Clipped policy and value losses of an `ActorCritic`, the mean over all tokens of answers.

    The price of leaving the reference is part of the rewards. While training, `statistics` get the figures of
    `surrogate`, and `value_error`: the mean square of returns less values.
    """
    loss = partial(_ppo_loss, settings=settings, statistics=Statistics() if statistics is None else statistics)
    return Objective(partial(_looked_up, look_up=look_up, kind=PolicyBatch), loss)


def grpo(
    settings: GrpoRecipe,
    look_up: LookUp,
    statistics: Statistics | None = None,
    beta: Callable[[], float] | None = None,
) -> Objective:
    """The loss that `settings.loss` names: clipped as for PPO, plus beta times the KL divergence to the reference.

    `beta` is asked in every pass, where it is steered; else it is `settings.kl`. While training, `statistics` get
    the figures of `surrogate`, and `kl_to_reference` in nats a token. UserError for an unknown loss.
    """
    if settings.loss not in POLICY_LOSSES:
        raise UserError(f"grpo.loss='{settings.loss}' is unknown{nearest(settings.loss, POLICY_LOSSES)}")
    named = POLICY_LOSSES[settings.loss]
    loss = partial(
        _grpo_loss,
        settings=settings,
        mean=named.mean,
        beta=beta or (lambda: settings.kl),
        statistics=Statistics() if statistics is None else statistics,
    )
    return Objective(partial(_looked_up, look_up=look_up, kind=named.batch), loss)


def _looked_up(windows: Windows, first: int = 0, *, look_up: LookUp, kind: type[PolicyBatch]) -> PolicyBatch:
    """The answers meant, with zeros where nothing counts: not even an infinity there shall reach a gradient."""
    del first  # nothing is drawn
    batch = look_up(windows)
    given = {item.name: getattr(batch, item.name) for item in fields(batch)}
    numbers = {
        name: value.where(batch.counted, 0.0)
        for name, value in given.items()
        if value is not None and value.is_floating_point()
    }
    return kind(**given | numbers)


def _ppo_loss(model: nn.Module, batch: PolicyBatch, *, settings: PpoRecipe, statistics: Statistics) -> Loss:
    assert isinstance(model, ActorCritic) and batch.old_values_BT is not None and batch.returns_BT is not None
    features_BTD, values_BT = model(batch.inputs_BT)
    log_probs_BT = _log_probs(model, features_BTD, batch, settings, statistics)
    errors_BT = (values_BT - batch.returns_BT).square()
    moved_BT = (values_BT - batch.old_values_BT).clamp(-settings.clip_value, settings.clip_value)
    near_errors_BT = (batch.old_values_BT + moved_BT - batch.returns_BT).square()
    of_values_BT = 0.5 * torch.maximum(errors_BT, near_errors_BT)
    of_policy_BT = surrogate(log_probs_BT, batch, settings, statistics if model.training else None)
    if model.training:
        statistics.add("value_error", errors_BT, batch.counted)
    mean = _over_tokens(of_policy_BT + settings.value_coefficient * of_values_BT, batch.counted, settings)
    return Loss(mean, batch.num_targets)


def _grpo_loss(
    model: nn.Module,
    batch: PolicyBatch,
    *,
    settings: GrpoRecipe,
    mean: Mean,
    beta: Callable[[], float],
    statistics: Statistics,
) -> Loss:
    assert isinstance(model, Unembeds), "log-probabilities are taken from features, in chunks"
    features_BTD = model.features(batch.inputs_BT, documents_BT=None)
    log_probs_BT = _log_probs(model, features_BTD, batch, settings, statistics)
    loss_BT = surrogate(log_probs_BT, batch, settings, statistics if model.training else None)
    if batch.reference_log_probs_BT is not None:
        kl_BT = k3(log_probs_BT, batch.reference_log_probs_BT)
        loss_BT = loss_BT + beta() * kl_BT
        if model.training:
            statistics.add("kl_to_reference", kl_BT, batch.counted)
    else:
        assert not beta(), "there is nothing to stay near to"
    return Loss(mean(loss_BT, batch.counted, settings), batch.num_targets)


def _log_probs(
    model: nn.Module, features_BTD: Tensor, batch: PolicyBatch, settings: PolicyRecipe, statistics: Statistics
) -> Tensor:
    """Of the targets (B, T), at the temperature of the recipe; while training the entropy is noted beside."""
    assert isinstance(model, Unembeds)
    given = features_BTD, model.unembedding_weight, batch.targets, settings.temperature
    if not model.training:
        return log_probs_of(*given)
    log_probs_BT, entropies_BT = log_probs_and_entropy(*given)
    statistics.add("entropy", entropies_BT, batch.counted)
    return log_probs_BT


def surrogate(
    log_probs_BT: Tensor, batch: PolicyBatch, settings: PolicyRecipe, statistics: Statistics | None = None
) -> Tensor:
    """The clipped objective of each token, negated, (B, T): -min(r A, clip(r) A) of the ratio r to the old policy.

    Upwards the ratio may go further, by `clip_ratio_high` (Yu et al. 2025, arXiv:2503.14476). `statistics` get
    `ratio_error` (the greatest |r - 1|: before any update only rounding), `clip_fraction` (of tokens whose clipped
    term is the smaller one), and `kl_to_old` in nats a token.
    """
    ratios_BT = (log_probs_BT - batch.old_log_probs_BT).exp()
    high = settings.clip_ratio if settings.clip_ratio_high is None else settings.clip_ratio_high
    free_BT = ratios_BT * batch.advantages_BT
    clipped_BT = ratios_BT.clamp(1 - settings.clip_ratio, 1 + high) * batch.advantages_BT
    if statistics is not None:
        counted_BT = batch.counted
        statistics.add_greatest("ratio_error", (ratios_BT - 1).abs(), counted_BT)
        statistics.add("clip_fraction", clipped_BT < free_BT, counted_BT)
        statistics.add("kl_to_old", k3(log_probs_BT, batch.old_log_probs_BT), counted_BT)
    return -torch.minimum(free_BT, clipped_BT)


def k3(log_probs: Tensor, other_log_probs: Tensor) -> Tensor:
    """An estimate of KL(policy || other) from each token that the policy sampled: e^d - d - 1, d = other - own.

    Without bias and never negative (Schulman 2020, "Approximating KL Divergence").
    """
    difference = other_log_probs - log_probs
    return difference.expm1() - difference


def _over_tokens(loss_BT: Tensor, counted_BT: Tensor, settings: PolicyRecipe) -> Tensor:
    """Over all tokens of all answers (DAPO, Yu et al. 2025, arXiv:2503.14476)."""
    del settings
    return loss_BT.where(counted_BT, 0.0).sum() / counted_BT.sum().clamp(min=1)


def _over_answers(loss_BT: Tensor, counted_BT: Tensor, settings: PolicyRecipe) -> Tensor:
    """Over each answer's tokens, then over answers (GRPO, Shao et al. 2024, arXiv:2402.03300)."""
    del settings
    return (loss_BT.where(counted_BT, 0.0).sum(1) / counted_BT.sum(1).clamp(min=1)).mean()


def _by_longest(loss_BT: Tensor, counted_BT: Tensor, settings: PolicyRecipe) -> Tensor:
    """Over answers the sum over the most tokens that one may have (Liu et al. 2025, arXiv:2503.20783)."""
    return loss_BT.where(counted_BT, 0.0).sum(1).mean() / settings.tokens


# To add one, write how it averages, and add its line.
POLICY_LOSSES = {
    "grpo": PolicyLoss(_over_answers, AnswerBatch),
    "dapo": PolicyLoss(_over_tokens, PolicyBatch),
    "dr-grpo": PolicyLoss(_by_longest, AnswerBatch),
}
