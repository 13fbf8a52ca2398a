"""From a family's name to a model: `build(shape)`."""

from collections.abc import Callable
from importlib import import_module
from typing import TypeAlias

import torch

from groundup.model.decoder import Decoder
from groundup.model.initialise import initialise
from groundup.shape import Shape, family

Builder: TypeAlias = Callable[[Shape], Decoder]
_BUILDERS: dict[str, Builder] = {}


def register(name: str) -> Callable[[Builder], Builder]:
    """Register the function that builds the family `name`, which `groundup.shape.FAMILIES` lists."""

    def add(builder: Builder) -> Builder:
        _BUILDERS[name] = builder
        return builder

    return add


def build(shape: Shape, seed: int = 0, device: str | torch.device = "cpu") -> Decoder:
    """A model of this shape on `device`, float32, initialised from `seed`.

    It is laid out on the meta device first, so that memory is taken once and only where it is wanted.
    """
    model = assemble(shape)
    model.to_empty(device=device)
    initialise(model, seed)
    return model


def assemble(shape: Shape) -> Decoder:
    """The model on the meta device: all its parameters and no memory."""
    import_module(family(shape.family).module)
    with torch.device("meta"):
        return _BUILDERS[shape.family](shape)
