"""Tiny shapes of every family, and models in which every parameter matters."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from groundup.model.decoder import Decoder
from groundup.model.registry import build
from groundup.shape import FAMILIES, Shape

from ..shapes import DECODERS, experts

MakeShape = Callable[..., Shape]
MakeModel = Callable[[Shape], Decoder]


@pytest.fixture(params=DECODERS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def make_shape() -> MakeShape:
    """A shape of two layers; heads share keys and values where the family can; any number may be changed."""

    def make(family: str, **changes: Any) -> Shape:
        numbers = {
            "num_layers": 2,
            "width": 32,
            "num_heads": 4,
            "num_kv_heads": 2 if FAMILIES[family].grouped_query else 4,
            "head_width": 8,
            "feedforward_width": 48,
            "vocabulary_size": 61,
            "context": 24,
        }
        numbers |= experts(family)
        return Shape(family=family, **numbers | changes)

    return make


@pytest.fixture(scope="session")
def make_random() -> MakeModel:
    """A model with no zeros and ones left in its parameters, in evaluation mode."""

    def make(shape: Shape) -> Decoder:
        model, generator = build(shape, seed=1), torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
        return model.eval()

    return make


@pytest.fixture
def ids() -> torch.Tensor:
    """(3, 24) token ids."""
    return torch.randint(0, 61, (3, 24), generator=torch.Generator().manual_seed(3))
