"""The causal objective: predict each next token (Bengio et al. 2003; Radford et al. 2018)."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from groundup.objective.base import Batch, Loss, Objective


def collate(windows: npt.NDArray[np.int64]) -> Batch:
    """Windows (B, T + 1) of consecutive tokens -> inputs and targets (B, T), the targets one token ahead."""
    tokens = torch.from_numpy(windows)
    return Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())


def loss(model: nn.Module, batch: Batch) -> Loss:
    """The cross-entropy of the next token, in nats, taken in float32."""
    logits_BTV = model(batch.inputs_BT)
    mean = F.cross_entropy(logits_BTV.flatten(0, 1).float(), batch.targets_BT.flatten())
    return Loss(mean, batch.targets_BT.numel())


CAUSAL = Objective(collate, loss)
