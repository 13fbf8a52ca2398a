"""How much a token costs in floating-point operations (a multiplication and an addition count as two)."""

from groundup.plan.parameters import ledger
from groundup.shape import Shape


def forward_flops_per_token(shape: Shape, length: int | None = None) -> float:
    """One forward pass: 2 per weight in a matrix product, and causal attention over `length` tokens.

    The lookup in an embedding is free; the unembedding's product is not, tied or not. Attention's scores and
    its weighted sum take 2 * heads width each per token looked at, half of `length` on average
    (Kaplan et al. 2020, arXiv:2001.08361, with the causal half taken).
    """
    counts = ledger(shape)
    in_products = sum(counts[name] for name in ("query", "key", "value", "output", "gate", "up", "down"))
    unembedding = shape.vocabulary_size * shape.width
    attended = (length or shape.context) / 2
    attention = shape.num_layers * 4 * shape.num_heads * shape.head_width * attended
    return 2.0 * (in_products + unembedding) + attention


def train_flops_per_token(shape: Shape, length: int | None = None) -> float:
    """Forward and backward: the backward pass costs twice the forward pass."""
    return 3.0 * forward_flops_per_token(shape, length)
