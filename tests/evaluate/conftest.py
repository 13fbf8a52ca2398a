"""A tokenizer with merges, and a model with nothing special about its parameters."""

from collections.abc import Callable

import pytest
import torch

from groundup.model.decoder import Decoder
from groundup.model.registry import build
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer

TEXT = "To be, or not to be: that is the question. 生存还是毁灭,这是一个问题。 "


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([TEXT * 3], vocabulary_size=290)


@pytest.fixture(scope="session")
def make_model(tokenizer: Tokenizer) -> Callable[[str, int], Decoder]:
    """A random untied model of a family and context for that tokenizer."""

    def make(family: str, context: int) -> Decoder:
        shape = Shape(
            family=family,
            num_layers=2,
            width=16,
            num_heads=2,
            num_kv_heads=2,
            head_width=8,
            feedforward_width=24,
            vocabulary_size=tokenizer.vocabulary_size,
            context=context,
            tied=False,
        )
        model, generator = build(shape, seed=1), torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
        return model

    return make
