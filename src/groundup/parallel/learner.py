"""A model together with what it learns, as one module: its forward pass gives the loss."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeAlias

from torch import Tensor, nn

from groundup.objective import Batch, Objective

# Opens the context in which a forward pass computes: mixed precision.
Computing: TypeAlias = Callable[[], AbstractContextManager[object]]


class Learner(nn.Module):
    """From a batch to the loss, so that what wraps a module sees all of a pass, the unembedding too."""

    def __init__(self, model: nn.Module, objective: Objective, computing: Computing):
        super().__init__()
        self.model, self._objective, self._computing = model, objective, computing

    def forward(self, batch: Batch, share: float) -> Tensor:
        """The batch's mean loss in nats, times its share in the step's: a scalar."""
        with self._computing():
            return self._objective.loss(self.model, batch).mean * share
