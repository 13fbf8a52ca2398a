"""What every objective has in common."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn


class Batch(NamedTuple):
    """What one forward pass is given: ids and the targets to predict, both (B, T) int64.

    `documents_BT` (int64) numbers the document of each id, where attention shall not leave it.
    """

    inputs_BT: Tensor
    targets_BT: Tensor
    documents_BT: Tensor | None = None

    @property
    def num_targets(self) -> int:
        """How many tokens are to be predicted."""
        return self.targets_BT.numel()

    def to(self, device: str) -> "Batch":
        """The batch on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def at(self, positions_N: Tensor) -> "Batch":
        """The same sequences at these positions only, (B, N)."""
        return self._each(lambda tensor: tensor[:, positions_N])

    def rows(self, part: slice) -> "Batch":
        """Some of the sequences."""
        return self._each(lambda tensor: tensor[part])

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        documents_BT = None if self.documents_BT is None else change(self.documents_BT)
        return Batch(change(self.inputs_BT), change(self.targets_BT), documents_BT)


@runtime_checkable
class Unembeds(Protocol):
    """A model whose logits are `features @ unembedding_weight.T`, so that a loss can take them in parts."""

    @property
    def unembedding_weight(self) -> Tensor:
        """(V, D)."""
        ...

    def features(self, ids_BT: Tensor, *, documents_BT: Tensor | None) -> Tensor:
        """(B, T, D)."""
        ...


class Loss(NamedTuple):
    """The mean over targets, in nats (a scalar with gradient), and how many targets there were."""

    mean: Tensor
    num_targets: int


@dataclass(frozen=True)
class Objective:
    """How tokens become a batch, and how a model's answer to it is judged.

    `collate(windows)` takes windows (B, T + 1) int64; with `end_of_text=id` the documents are numbered too.
    """

    collate: Callable[..., Batch]
    loss: Callable[[nn.Module, Batch], Loss]

    def within_documents(self, end_of_text: int) -> "Objective":
        """The same for documents that attention does not leave; they lie between ids `end_of_text`."""
        return replace(self, collate=partial(self.collate, end_of_text=end_of_text))


def number_documents(ids_BT: Tensor, end_of_text: int) -> Tensor:
    """The document of each id in its window, (B, T) int64.

    An end of text counts with what follows: it is what a document is predicted from, here and in generation.
    """
    return (ids_BT == end_of_text).cumsum(1)
