"""What every objective has in common."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from groundup.errors import UserError
from groundup.shape import Shape

# A target that does not count.
IGNORED = -100

Windows: TypeAlias = npt.NDArray[np.int64]


class Batch(NamedTuple):
    """What one forward pass is given: ids and targets to predict, both (B, T) int64; `IGNORED` ones do not count.

    `documents_BT` (int64) numbers the document of each id, where attention shall not leave it. `is_partial` says
    that some targets may be ignored; where all count, nobody has to look.
    """

    inputs_BT: Tensor
    targets_BT: Tensor
    documents_BT: Tensor | None = None
    is_partial: bool = False

    @property
    def targets(self) -> Tensor:
        """What is to be predicted, under the name that all batches have."""
        return self.targets_BT

    @property
    def num_targets(self) -> int:
        """How many tokens are to be predicted."""
        return int((self.targets_BT != IGNORED).sum()) if self.is_partial else self.targets_BT.numel()

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
        return Batch(change(self.inputs_BT), change(self.targets_BT), documents_BT, self.is_partial)


@dataclass(frozen=True)
class TensorBatch:
    """A batch of another form: a frozen dataclass of tensors (B, ...), some of which may be None.

    `targets` is what is to be predicted, of any shape; `IGNORED` ones do not count.
    """

    targets: Tensor

    @property
    def num_targets(self) -> int:
        """How many targets count."""
        return int((self.targets != IGNORED).sum())

    def to(self, device: str) -> Self:
        """The batch on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def rows(self, part: slice) -> Self:
        """Some of the examples."""
        return self._each(lambda tensor: tensor[part])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return replace(self, **{name: change(value) for name, value in values.items() if value is not None})


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
    """The mean over targets, in nats (a scalar with gradient), and how many targets there were.

    `num_correct` counts the targets that the model held for the likeliest; None while training.
    """

    mean: Tensor
    num_targets: int
    num_correct: int | None = None


@dataclass(frozen=True)
class Setting:
    """What an objective may need to know of the run that it is for.

    Attributes:
        seed: of what is drawn, together with the number of the window.
        shape: of the model.
        special: the ids of special tokens.
        border: the id between documents that attention does not cross; None where it may cross all.
        starts_word_V: whether a token begins a word, (V,) bool.
        label_smoothing: the share of a target that is spread over the vocabulary while training.
    """

    seed: int = 0
    shape: Shape | None = None
    special: Mapping[str, int] = field(default_factory=dict)
    border: int | None = None
    starts_word_V: npt.NDArray[np.bool_] | None = None
    label_smoothing: float = 0.0


def refuse_border(setting: Setting) -> None:
    """UserError where documents were to be kept apart, by an objective whose models cannot."""
    if setting.border is not None:
        family = setting.shape.family if setting.shape else "of this objective"
        raise UserError(
            f"data.packing=documents is not for the family {family}, which cannot keep to a document; "
            "leave data.packing unset"
        )


@dataclass(frozen=True)
class Objective:
    """How rows of whole numbers become a batch, and how a model's answer to it is judged.

    `collate(windows, first)` takes rows (B, ...) int64, for text windows of T + 1 tokens, of which the first is
    number `first` of the run's endless order: what is drawn for a row follows from its number, so that it is the
    same however the rows of a step are divided. `in_nats_per_token` says whether the mean loss is the surprise at
    each next token of the text, from which bits per byte follow.
    """

    collate: Callable[..., Any]
    loss: Callable[[nn.Module, Any], Loss]
    in_nats_per_token: bool = False


def row_generators(seed: int, first: int, count: int) -> list[np.random.Generator]:
    """A generator for each of `count` rows from number `first` on."""
    return [np.random.default_rng((seed, number)) for number in range(first, first + count)]


def judged(model: nn.Module, logits_NV: Tensor, targets_N: Tensor, label_smoothing: float = 0.0) -> Loss:
    """The cross-entropy of targets (N,) that are not `IGNORED` under logits (N, V), in float32.

    Labels are smoothed while training only (Szegedy et al. 2016, arXiv:1512.00567), hits counted otherwise. No
    targets give a loss of 0.
    """
    counted_N = targets_N != IGNORED
    num_targets = int(counted_N.sum())
    smoothing = label_smoothing if model.training else 0.0
    total = nn.functional.cross_entropy(
        logits_NV.float(), targets_N, ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing
    )
    num_correct = None if model.training else int(((logits_NV.argmax(-1) == targets_N) & counted_N).sum())
    return Loss(total / max(num_targets, 1), num_targets, num_correct)


def number_documents(ids_BT: Tensor, end_of_text: int) -> Tensor:
    """The document of each id in its window, (B, T) int64.

    An end of text counts with what follows: it is what a document is predicted from, here and in generation.
    """
    return (ids_BT == end_of_text).cumsum(1)


def tokens_of(windows: Windows) -> Tensor:
    """The same numbers as a tensor, (B, ...) int64."""
    return torch.from_numpy(windows)
