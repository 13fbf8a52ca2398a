"""GRPO: a policy learns from how the answers to one question compare with each other (arXiv:2402.03300)."""

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from groundup.clock import Clock
from groundup.model.decoder import Decoder
from groundup.objective.base import IGNORED
from groundup.objective.policy import grpo
from groundup.objective.statistics import Statistics
from groundup.pipeline.tuning.job import TuneJob
from groundup.pipeline.tuning.reinforcing import (
    Parts,
    check_groups,
    extent_of,
    learn,
    look_up,
    prepare,
    refuse_inexact,
    rounds_of,
    steered_beta,
    without_dropout,
)
from groundup.recipe_stages import GrpoRecipe
from groundup.tune.advantages import group_advantages
from groundup.tune.rounds import Round, Rounds


def carry_on(job: TuneJob, clock: Clock) -> dict[str, Any]:
    """Take the run from wherever it stands to its model; the outcome."""
    settings, statistics = job.settings_of(GrpoRecipe), Statistics()
    refuse_inexact(job)
    steered_beta(settings, None)  # refuses what could never be steered
    check_groups(settings, settings.group, "group")
    extent = extent_of(settings, settings.answers, settings.updates)
    # An unknown name is refused before anything is written.
    group_advantages(settings.advantages, torch.zeros(settings.group), settings.group)
    parts = prepare(job, clock)
    without_dropout(parts.policy)
    rounds: Rounds = rounds_of(parts, extent, partial(_make, parts, settings))
    objective = grpo(settings, partial(look_up, rounds), statistics, lambda: rounds.current.figures["beta"])

    def arrange(decoder: Decoder) -> Decoder:
        without_dropout(decoder)
        return job.arranged(decoder)

    return learn(parts, parts.policy, objective, rounds, clock, statistics, arrange)


def _make(parts: Parts, settings: GrpoRecipe, number: int, before: Mapping[str, Any] | None) -> Round:
    """A group of answers to each question, and how much better than the others each was."""
    began = time.monotonic()
    rollouts = parts.answers(number, settings.group)
    old_NT, reference_NT = (parts.log_probs(model, rollouts) for model in (parts.policy, parts.reference))
    rewards_N, targets_NT = rollouts.rewards, rollouts.batch.targets_BT
    advantages_N = group_advantages(settings.advantages, rewards_N, settings.group)
    tensors = {
        "targets": targets_NT,
        "inputs_BT": rollouts.batch.inputs_BT,
        "old_log_probs_BT": old_NT,
        "advantages_BT": advantages_N[:, None] * (targets_NT != IGNORED),
        "reference_log_probs_BT": reference_NT,
    }
    figures = {
        "round": number,
        **rollouts.figures,
        "kl": float((old_NT - reference_NT).sum(1).mean()),
        "beta": steered_beta(settings, before),
        # Groups of equal answers teach nothing.
        "equal_groups": float((rewards_N.unflatten(0, (-1, settings.group)).std(1) == 0).float().mean()),
        "seconds": time.monotonic() - began,
    }
    return Round(tensors, figures)
