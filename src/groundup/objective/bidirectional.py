"""The bidirectional objective: predict each next token from the left, each one before from the right (ELMo).

Peters et al. 2018, arXiv:1802.05365, equation 1.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from groundup.objective.base import (
    Loss,
    Objective,
    Setting,
    TensorBatch,
    Windows,
    judged,
    refuse_border,
    tokens_of,
)


@dataclass(frozen=True)
class BidirectionalBatch(TensorBatch):
    """`inputs` (B, T + 1) are all tokens; `targets` (B, 2, T) the last T of them, and the first T."""

    inputs: Tensor


def bidirectional(setting: Setting) -> Objective:
    """Both directions' predictions count alike."""
    refuse_border(setting)
    return Objective(collate, partial(loss, label_smoothing=setting.label_smoothing))


def collate(windows: Windows, first: int = 0) -> BidirectionalBatch:
    """Windows (B, T + 1) of consecutive tokens -> what follows the first T, and what precedes the last T."""
    del first  # nothing is drawn
    tokens = tokens_of(windows)
    return BidirectionalBatch(torch.stack([tokens[:, 1:], tokens[:, :-1]], 1), tokens)


def loss(model: nn.Module, batch: BidirectionalBatch, *, label_smoothing: float = 0.0) -> Loss:
    """The mean of the forward and the backward model's cross-entropy, in nats a token.

    `model(ids)` gives the logits (B, T + 1, V) of the token after each position, and of the one before.
    """
    after_BTV, before_BTV = model(batch.inputs)
    logits_BDTV = torch.stack([after_BTV[:, :-1], before_BTV[:, 1:]], 1)
    return judged(model, logits_BDTV.flatten(0, 2), batch.targets.flatten(), label_smoothing)
