"""What every model has in common, whatever its family."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from groundup.data.labelled import Frame
from groundup.shape import Shape


class Model(nn.Module):
    """A model of any family; `shape` says what it is made of."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape


class TextModel(Model):
    """A model that reads token ids, and can lend what it has learnt of them to other tasks.

    `frame` is what stands around a text where the model is trained: the border behind the last document, special
    tokens on both sides, or nothing.
    """

    frame: Frame = "border"

    @property
    def feature_width(self) -> int:
        """E, the numbers that it gives for a token."""
        return self.shape.width

    def text_features(self, ids_BT: Tensor, keep_BT: Tensor | None = None) -> Tensor:
        """What the model makes of each token, (B, T, E).

        `keep_BT` (bool) is false at padding, which stands behind a text and must not change what is given for it.
        """
        raise NotImplementedError


class ImageModel(Model):
    """A model that reads images, and can lend what it sees in them to other tasks."""

    @property
    def feature_width(self) -> int:
        """E, the numbers that it gives for an image."""
        raise NotImplementedError

    def image_features(self, pixels_BN: Tensor) -> Tensor:
        """What the model sees in each image, (B, E), before it is asked for a class; pixels 0..255."""
        raise NotImplementedError


@runtime_checkable
class Drawn(Protocol):
    """A module that says itself what its own parameters start from."""

    def initial_values(self, generator: torch.Generator) -> dict[str, Tensor]:
        """By name, on the CPU; of the parameters that are this module's own, not its children's."""
        ...


@runtime_checkable
class Fills(Protocol):
    """A module with tables that follow from the shape, to be computed when it gets its memory."""

    def fill(self) -> None:
        """Compute them."""
        ...


@runtime_checkable
class ReadsSpelling(Protocol):
    """A model that must know of which bytes each token is made, told once before training."""

    def read_spelling(self, token_bytes: Sequence[bytes]) -> None:
        """The bytes of the ids 0, 1, ...; of special tokens none."""
        ...


@runtime_checkable
class ReadsVectors(Protocol):
    """A model that stands on word vectors of this width, which others have trained; told once before training."""

    vector_width: int

    def read_vectors(self, words: Mapping[str, npt.NDArray[np.float32]], token_texts: Sequence[str]) -> None:
        """The vectors of words, and the texts of the ids 0, 1, ...; UserError where they do not fit."""
        ...


def fill_tables(model: nn.Module) -> None:
    """Compute every table of a model that has just got its memory."""
    for module in model.modules():
        if isinstance(module, Fills):
            module.fill()
