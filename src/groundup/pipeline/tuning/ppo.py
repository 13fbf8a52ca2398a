"""PPO: a policy and a critic learn from the rewards of the policy's own answers, near the reference.

Schulman et al. 2017, arXiv:1707.06347, as for language models in Ziegler et al. 2019, arXiv:1909.08593.
"""

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from groundup.clock import Clock
from groundup.model.actor_critic import ActorCritic
from groundup.model.decoder import Decoder
from groundup.objective.base import IGNORED
from groundup.objective.log_probs import log_probs_of
from groundup.objective.policy import ppo
from groundup.objective.statistics import Statistics
from groundup.pipeline.tuning.job import TuneJob
from groundup.pipeline.tuning.reinforcing import (
    Parts,
    extent_of,
    learn,
    look_up,
    prepare,
    refuse_inexact,
    rounds_of,
    steered_beta,
    without_dropout,
)
from groundup.recipe_stages import PpoRecipe
from groundup.train.compile import eager
from groundup.train.precision import autocast
from groundup.tune.advantages import explained_variance, gae, token_rewards, whitened
from groundup.tune.reference import twin_of
from groundup.tune.rollouts import Rollouts
from groundup.tune.rounds import Round


def carry_on(job: TuneJob, clock: Clock) -> dict[str, Any]:
    """Take the run from wherever it stands to its model; the outcome."""
    settings, statistics = job.settings_of(PpoRecipe), Statistics()
    refuse_inexact(job)
    steered_beta(settings, None)  # refuses what could never be steered
    extent = extent_of(settings, settings.answers, settings.updates)
    parts = prepare(job, clock)

    def with_critic(policy: Decoder) -> ActorCritic:
        actor = ActorCritic(policy, None if settings.share_trunk else twin_of(policy))
        without_dropout(actor)
        return actor

    actor = with_critic(parts.policy).to(job.device)
    rounds = rounds_of(parts, extent, partial(_make, parts, actor, settings))
    objective = ppo(settings, partial(look_up, rounds), statistics)
    return learn(
        parts, actor, objective, rounds, clock, statistics, lambda decoder: with_critic(job.arranged(decoder))
    )


def _make(
    parts: Parts, actor: ActorCritic, settings: PpoRecipe, number: int, before: Mapping[str, Any] | None
) -> Round:
    """Answers to questions, and how much better than the critic expected each token of them turned out."""
    began = time.monotonic()
    beta = steered_beta(settings, before)
    rollouts = parts.answers(number, 1)
    if number == 0 and not settings.whiten_rewards:
        _expect(parts, actor, float(rollouts.rewards.mean()))
    old_NT, values_NT = _old(parts, actor, rollouts)
    reference_NT = parts.log_probs(parts.reference, rollouts)
    targets_NT = rollouts.batch.targets_BT
    counted_NT = targets_NT != IGNORED
    rewards_NT = token_rewards(rollouts.rewards, old_NT, reference_NT, counted_NT, beta)
    if settings.whiten_rewards:
        rewards_NT = whitened(rewards_NT, counted_NT, shift_mean=False)
    advantages_NT, returns_NT = gae(rewards_NT, values_NT, counted_NT, settings.gamma, settings.gae_lambda)
    tensors = {
        "targets": targets_NT,
        "inputs_BT": rollouts.batch.inputs_BT,
        "old_log_probs_BT": old_NT,
        "advantages_BT": whitened(advantages_NT, counted_NT),
        "old_values_BT": values_NT,
        "returns_BT": returns_NT,
    }
    figures = {
        "round": number,
        **rollouts.figures,
        "kl": float((old_NT - reference_NT).sum(1).mean()),
        "beta": beta,
        "explained_variance": explained_variance(values_NT, returns_NT, counted_NT),
        "seconds": time.monotonic() - began,
    }
    return Round(tensors, figures)


def _expect(parts: Parts, actor: ActorCritic, reward: float) -> None:
    """Let the critic, until it has learnt more, expect what answers came to.

    From zero it would learn that first, and meanwhile praise the last words of all answers, or blame them.
    Whitened rewards have another unit, in which it begins with 0.
    """
    for model in parts.writer.copies(actor):
        assert isinstance(model, ActorCritic)
        nn.init.constant_(model.value_head.bias, reward)


@torch.no_grad()
def _old(parts: Parts, actor: ActorCritic, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
    """Log-probabilities and values of the answers' tokens (N, T) before the update, in passes of a few answers."""
    job, rows, batch = parts.job, parts.rows_at_once, rollouts.batch
    found = []
    for first in range(0, len(batch.inputs_BT), rows):
        part = batch.rows(slice(first, first + rows)).to(job.device)
        with eager(), autocast(job.device, job.precision):
            features_BTD, values_BT = actor(part.inputs_BT)
            weight_VD, temperature = actor.unembedding_weight, parts.settings.temperature
            log_probs_BT = log_probs_of(features_BTD, weight_VD, part.targets_BT, temperature)
        found.append((log_probs_BT.cpu(), values_BT.cpu()))
    log_probs, values = zip(*found, strict=True)
    return torch.cat(log_probs), torch.cat(values)
