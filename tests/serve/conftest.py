"""Random models to sample from, and models made to write a given text."""

from collections.abc import Callable

import pytest
import torch

from groundup.model.decoder import Decoder
from groundup.model.registry import build
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer

from ..shapes import experts

CONTEXT = 16


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Bytes alone, so that every character beyond ASCII is cut into tokens."""
    return Tokenizer.train(["a"], vocabulary_size=257)


def _shape(family: str, context: int, width: int = 32) -> Shape:
    return Shape(
        family=family,
        num_layers=2,
        width=width,
        num_heads=2,
        num_kv_heads=2,
        head_width=width // 2,
        feedforward_width=4 * width,
        vocabulary_size=257,
        context=context,
        tied=False,
        **experts(family),
    )


@pytest.fixture(scope="session")
def make_random() -> Callable[[str], Decoder]:
    """A model of a family that prefers no token for long."""

    def make(family: str) -> Decoder:
        model, generator = build(_shape(family, CONTEXT), seed=1), torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def make_reciting() -> Callable[[list[int]], Decoder]:
    """A model whose likeliest token at position t is ids[t], whatever was before it.

    Its blocks are the identity, tokens are embedded as nothing and positions as unit vectors, each of which the
    unembedding takes to its token.
    """

    def make(ids: list[int]) -> Decoder:
        width = 2 * len(ids)
        model = build(_shape("gpt2", len(ids), width), seed=1)
        with torch.no_grad():
            model.embedding.weight.zero_()
            model.positions.weight.copy_(torch.eye(len(ids), width))
            model.unembedding.weight.zero_()
            model.unembedding.weight[torch.tensor(ids), torch.arange(len(ids))] = 1.0
        return model.eval()

    return make
