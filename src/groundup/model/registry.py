"""From a family's name to a model: `build_any(shape)`, and `build(shape)` where it must be a decoder."""

from collections.abc import Callable
from importlib import import_module
from typing import TypeAlias, TypeVar

import torch

from groundup.errors import UserError
from groundup.model.base import Model
from groundup.model.decoder import Decoder
from groundup.model.initialise import initialise
from groundup.shape import FAMILIES, Shape, family

Builder: TypeAlias = Callable[[Shape], Model]
AnyBuilder = TypeVar("AnyBuilder", bound=Builder)
_BUILDERS: dict[str, Builder] = {}


def register(name: str) -> Callable[[AnyBuilder], AnyBuilder]:
    """Register what builds the family `name` of `groundup.shape.FAMILIES`: a function, or a model's class."""

    def add(builder: AnyBuilder) -> AnyBuilder:
        _BUILDERS[name] = builder
        return builder

    return add


def build(shape: Shape, seed: int = 0, device: str | torch.device = "cpu") -> Decoder:
    """A decoder as by `build_any`; UserError for a family of another kind."""
    return _decoder(build_any(shape, seed, device))


def assemble(shape: Shape) -> Decoder:
    """A decoder as by `assemble_any`; UserError for a family of another kind."""
    return _decoder(assemble_any(shape))


def build_any(shape: Shape, seed: int = 0, device: str | torch.device = "cpu") -> Model:
    """A model of this shape on `device`, float32, initialised from `seed`.

    It is laid out on the meta device first, so that memory is taken once and only where it is wanted.
    """
    model = assemble_any(shape)
    model.to_empty(device=device)
    initialise(model, seed)
    return model


def assemble_any(shape: Shape) -> Model:
    """The model on the meta device: all its parameters and no memory."""
    import_module(family(shape.family).module)
    with torch.device("meta"):
        return _BUILDERS[shape.family](shape)


def _decoder(model: Model) -> Decoder:
    if not isinstance(model, Decoder):
        decoders = ", ".join(name for name, traits in FAMILIES.items() if traits.is_decoder)
        raise UserError(f"{model.shape.family} is no decoder, which this needs; choose one of {decoders}")
    return model
