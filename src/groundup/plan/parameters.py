"""How many parameters a shape has, by category: arithmetic on its numbers, equal to what torch counts."""

from groundup.shape import Shape, family

CATEGORIES = (
    "embedding",
    "position",
    "query",
    "key",
    "value",
    "output",
    "gate",
    "up",
    "down",
    "norm",
    "unembedding",
)


def ledger(shape: Shape) -> dict[str, int]:
    """Parameters by category, biases counted with their matrices; a tied unembedding counts 0."""
    traits = family(shape.family)
    width, layers, bias = shape.width, shape.num_layers, int(traits.bias)
    heads_width = shape.num_heads * shape.head_width
    kv_width = shape.num_kv_heads * shape.head_width
    gated = traits.feedforward == "swiglu"
    norm_width = width * (2 if traits.norm == "layer" else 1)
    qk_norms = 2 * shape.head_width if traits.qk_norm else 0
    feedforward_bias = 0 if gated else 1
    return {
        "embedding": shape.vocabulary_size * width,
        "position": shape.context * width if traits.position == "learned" else 0,
        "query": layers * heads_width * (width + bias),
        "key": layers * kv_width * (width + bias),
        "value": layers * kv_width * (width + bias),
        "output": layers * width * (heads_width + bias),
        "gate": layers * width * shape.feedforward_width if gated else 0,
        "up": layers * shape.feedforward_width * (width + feedforward_bias),
        "down": layers * width * (shape.feedforward_width + feedforward_bias),
        "norm": layers * (2 * norm_width + qk_norms) + norm_width,
        "unembedding": 0 if shape.tied else shape.vocabulary_size * width,
    }


def total(shape: Shape) -> int:
    """All parameters; a tied embedding counts once."""
    return sum(ledger(shape).values())


def non_embedding(shape: Shape) -> int:
    """The parameters of the blocks and norms: what the scaling laws of Kaplan et al. 2020 count as N."""
    counts = ledger(shape)
    return total(shape) - counts["embedding"] - counts["position"] - counts["unembedding"]
