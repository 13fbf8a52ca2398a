"""A reward learnt from comparisons: the better of two answers is to have the higher score.

Bradley and Terry 1952; Stiennon et al. 2020, arXiv:2009.01325.
"""

from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from groundup.objective.base import Loss, Objective, TensorBatch, Windows, tokens_of
from groundup.objective.preference import add_pairs
from groundup.objective.statistics import Statistics


@dataclass(frozen=True)
class ScoredBatch(TensorBatch):
    """Pairs of sequences, chosen first, ids (B, 2, T) int64; a score is wanted at `targets`, their last tokens."""

    ids_B2T: Tensor

    @property
    def num_targets(self) -> int:
        """How many pairs there are."""
        return len(self.targets)


def bradley_terry(statistics: Statistics | None = None) -> Objective:
    """-log sigmoid(r_chosen - r_rejected), of rows (B, 2, 3, L) as of `data.turn_rows`.

    The model maps ids (N, T) and the places of their last tokens (N,) to rewards (N,). While training,
    `statistics` get `reward_chosen`, `reward_rejected`, `margin` and `accuracy`.
    """
    return Objective(collate, partial(loss, statistics=Statistics() if statistics is None else statistics))


def collate(windows: Windows, first: int = 0) -> ScoredBatch:
    """Rows (B, 2, 3, L) -> ids (B, 2, T), T as the longest of the sequences needs it."""
    del first  # nothing is drawn
    ids_B2L, _, numbers_B2L = tokens_of(windows).unbind(2)
    lengths_B2 = (numbers_B2L >= 0).sum(-1)
    return ScoredBatch(targets=lengths_B2 - 1, ids_B2T=ids_B2L[..., : int(lengths_B2.max())].contiguous())


def pair_rewards(model: nn.Module, batch: ScoredBatch) -> Tensor:
    """The rewards of both sequences, (B, 2)."""
    rewards_N: Tensor = model(batch.ids_B2T.flatten(0, 1), batch.targets.flatten())
    return rewards_N.unflatten(0, batch.targets.shape)


def loss(model: nn.Module, batch: ScoredBatch, *, statistics: Statistics) -> Loss:
    """The mean over pairs, in nats; right is a pair whose chosen answer has the higher reward."""
    chosen_B, rejected_B = pair_rewards(model, batch).float().unbind(1)
    margins_B = chosen_B - rejected_B
    if model.training:
        add_pairs(statistics, chosen_B, rejected_B)
    mean = -F.logsigmoid(margins_B).mean()
    return Loss(mean, batch.num_targets, None if model.training else int((margins_B > 0).sum()))
