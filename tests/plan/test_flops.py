import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from groundup.model.registry import build
from groundup.plan.flops import forward_flops_per_token, train_flops_per_token
from groundup.shape import Shape

from ..shapes import experts

BATCH = 3


def _shape(family: str, tied: bool) -> Shape:
    return Shape(
        family=family,
        num_layers=2,
        width=64,
        num_heads=4,
        num_kv_heads=4 if family == "gpt2" else 2,
        head_width=16,
        feedforward_width=80,
        vocabulary_size=97,
        context=32,
        tied=tied,
        **experts(family),
    )


def _counted(shape: Shape) -> tuple[int, int]:
    """Torch's own count of the real model's matrix products: forward, and forward with backward.

    The plain attention kernel is taken, whose two products torch sees; it computes the whole square of scores.
    """
    model = build(shape).double()  # whose products go to torch on every processor
    ids = torch.zeros(BATCH, shape.context, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        loss = F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())
        forward = counter.get_total_flops()
        loss.backward()
        return forward, counter.get_total_flops()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "qwen3_moe"])
def test_products_are_those_that_torch_counts(family: str, tied: bool) -> None:
    """Exactly equal, when the formula is asked for twice the length: half of that is the whole square."""
    shape = _shape(family, tied)
    tokens, square = BATCH * shape.context, 2 * shape.context
    forward, with_backward = _counted(shape)
    assert tokens * forward_flops_per_token(shape, square) == forward
    assert tokens * train_flops_per_token(shape, square) == with_backward


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_the_causal_half_alone_depends_on_the_length(family: str) -> None:
    """Scores and weighted sum: 2 * 2 * heads width for each of the length / 2 tokens looked at, in each layer."""
    shape = _shape(family, tied=True)
    for length in (16, 32, 500):
        attention = forward_flops_per_token(shape, length) - forward_flops_per_token(shape, 1)
        looked_at = length / 2 - 1 / 2
        assert attention == pytest.approx(shape.num_layers * 2 * 2 * 64 * looked_at)
    assert forward_flops_per_token(shape) == forward_flops_per_token(shape, shape.context)


def test_large_models_cost_six_operations_a_weight_and_attention() -> None:
    """6 N + 12 layers * width * length (Chowdhery et al. 2022, appendix B), N without the embedding's lookup.

    Of the attention the causal half. N counts norms too, which are in no product: 1.3 million of 69 billion.
    """
    shape = Shape(
        family="llama",
        num_layers=80,
        width=8192,
        num_heads=64,
        num_kv_heads=8,
        head_width=128,
        feedforward_width=28_672,
        vocabulary_size=32_000,
        context=4096,
        tied=False,
    )
    weights = 68_976_648_192 - 32_000 * 8192
    assert train_flops_per_token(shape) == pytest.approx(6 * weights + 12 * 80 * 8192 * 4096 / 2, rel=1e-4)
