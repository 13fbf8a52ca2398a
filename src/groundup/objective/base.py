"""What every objective has in common."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn


class Batch(NamedTuple):
    """What one forward pass is given: ids and the targets to predict, both (B, T) int64."""

    inputs_BT: Tensor
    targets_BT: Tensor

    @property
    def num_targets(self) -> int:
        """How many tokens are to be predicted."""
        return self.targets_BT.numel()

    def to(self, device: str) -> "Batch":
        """The batch on another device."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


@runtime_checkable
class Unembeds(Protocol):
    """A model whose logits are `features @ unembedding_weight.T`, so that a loss can take them in parts."""

    @property
    def unembedding_weight(self) -> Tensor:
        """(V, D)."""
        ...

    def features(self, ids_BT: Tensor) -> Tensor:
        """(B, T, D)."""
        ...


class Loss(NamedTuple):
    """The mean over targets, in nats (a scalar with gradient), and how many targets there were."""

    mean: Tensor
    num_targets: int


@dataclass(frozen=True)
class Objective:
    """How tokens become a batch, and how a model's answer to it is judged."""

    collate: Callable[[npt.NDArray[np.int64]], Batch]
    loss: Callable[[nn.Module, Batch], Loss]
