"""How much a token costs in floating-point operations (a multiplication and an addition count as two)."""

from groundup.shape import Shape, family


def forward_flops_by_part(shape: Shape, length: int | None = None) -> dict[str, float]:
    """One forward pass for a token, by part: 2 per weight in a matrix product, and causal attention over `length`.

    Of a mixture of experts a token passes through those that it is sent to. The lookup in an embedding is free;
    the unembedding's product is not, tied or not. Attention's scores and its weighted sum take 2 * heads width
    each per token looked at, half of `length` on average (Kaplan et al. 2020, arXiv:2001.08361, with the causal
    half taken).
    """
    heads_width, kv_width = shape.num_heads * shape.head_width, shape.num_kv_heads * shape.head_width
    attention_weights = shape.width * (2 * heads_width + 2 * kv_width)
    num_matrices = 3 if family(shape.family).feedforward == "swiglu" else 2
    attended = (length or shape.context) / 2
    router = {"router": 2.0 * shape.num_layers * shape.width * shape.num_experts} if shape.num_experts else {}
    return {
        "attention projections": 2.0 * shape.num_layers * attention_weights,
        "attention scores": shape.num_layers * 2 * heads_width * attended,
        "weighted sum": shape.num_layers * 2 * heads_width * attended,
        "feed-forward": 2.0 * shape.num_layers * num_matrices * shape.width * shape.feedforward_width,
        **router,
        "unembedding": 2.0 * shape.vocabulary_size * shape.width,
    }


def forward_flops_per_token(shape: Shape, length: int | None = None) -> float:
    """One forward pass: the sum of `forward_flops_by_part`."""
    return sum(forward_flops_by_part(shape, length).values())


def train_flops_per_token(shape: Shape, length: int | None = None) -> float:
    """Forward and backward: the backward pass costs twice the forward pass."""
    return 3.0 * forward_flops_per_token(shape, length)
