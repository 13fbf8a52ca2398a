"""Answers of unequal length with what was known of them before an update."""

import torch
from torch import Tensor

from groundup.objective import IGNORED, Batch
from groundup.objective.log_probs import token_log_probs
from groundup.objective.policy import PolicyBatch
from groundup.recipe_stages import PolicyRecipe

from .rows import VOCABULARY, tiny


def answers(count: int, settings: PolicyRecipe, length: int = 11, seed: int = 0) -> PolicyBatch:
    """Prompts of one to three tokens, answers of one token and more, in float64.

    The old policy and the reference are models near to `tiny()`; all else is drawn. Each answer has one advantage.
    """
    random = torch.Generator().manual_seed(seed)
    inputs_BT = torch.randint(VOCABULARY, (count, length), generator=random)
    targets_BT = torch.full_like(inputs_BT, IGNORED)
    for row in range(count):
        start = int(torch.randint(0, 3, (), generator=random))
        end = int(torch.randint(start + 1, length + 1, (), generator=random))
        targets_BT[row, start:end] = torch.randint(VOCABULARY, (end - start,), generator=random)
    sequences = Batch(inputs_BT, targets_BT)
    old_BT, reference_BT = (_of_neighbour(sequences, settings, distance, random) for distance in (0.1, 0.2))

    def draw() -> Tensor:
        return torch.randn(targets_BT.shape, generator=random, dtype=torch.float64)

    return PolicyBatch(
        targets=targets_BT,
        inputs_BT=inputs_BT,
        old_log_probs_BT=old_BT,
        advantages_BT=draw()[:, :1].expand_as(targets_BT).contiguous(),
        reference_log_probs_BT=reference_BT,
        old_values_BT=draw(),
        returns_BT=draw(),
    )


@torch.no_grad()
def _of_neighbour(batch: Batch, settings: PolicyRecipe, distance: float, random: torch.Generator) -> Tensor:
    model = tiny()
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=random, dtype=torch.float64), alpha=distance)
    return token_log_probs(model, batch, settings.temperature)
