"""How many parameters a shape has, by category: arithmetic on its numbers, equal to what torch counts."""

from groundup.shape import Shape, decoder_family, family

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
    "router",
    "norm",
    "unembedding",
)


def ledger(shape: Shape) -> dict[str, int]:
    """Parameters by category, biases counted with their matrices; a tied unembedding counts 0."""
    traits = decoder_family(shape.family)
    width, layers, bias = shape.width, shape.num_layers, int(traits.bias)
    inner = shape.total_feedforward_width
    heads_width = shape.num_heads * shape.head_width
    kv_width = shape.num_kv_heads * shape.head_width
    gated = traits.feedforward == "swiglu"
    norm_width = _norm_width(shape)
    qk_norms = 2 * shape.head_width if traits.qk_norm else 0
    feedforward_bias = 0 if gated else 1
    return {
        "embedding": shape.vocabulary_size * width,
        "position": shape.context * width if traits.position == "learned" else 0,
        "query": layers * heads_width * (width + bias),
        "key": layers * kv_width * (width + bias),
        "value": layers * kv_width * (width + bias),
        "output": layers * width * (heads_width + bias),
        "gate": layers * width * inner if gated else 0,
        "up": layers * inner * (width + feedforward_bias),
        "down": layers * width * (inner + feedforward_bias),
        "router": layers * width * (shape.num_experts or 0),
        "norm": layers * (2 * norm_width + qk_norms) + final_norm(shape),
        "unembedding": 0 if shape.tied else shape.vocabulary_size * width,
    }


def final_norm(shape: Shape) -> int:
    """The parameters of the norm behind the last block, which there is where norms stand before their parts."""
    return 0 if family(shape.family).post_norm else _norm_width(shape)


def _norm_width(shape: Shape) -> int:
    """The parameters of one norm of the stream: a scale and a shift, or a scale alone."""
    return shape.width * (2 if family(shape.family).norm == "layer" else 1)


def total(shape: Shape) -> int:
    """All parameters; a tied embedding counts once."""
    return sum(ledger(shape).values())


def non_embedding(shape: Shape) -> int:
    """The parameters of the blocks and norms: what the scaling laws of Kaplan et al. 2020 count as N."""
    counts = ledger(shape)
    return total(shape) - counts["embedding"] - counts["position"] - counts["unembedding"]


def active(shape: Shape) -> int:
    """The parameters that one token meets: of a mixture of experts those that it is sent to, else all."""
    counts = ledger(shape)
    experts = counts["gate"] + counts["up"] + counts["down"] if shape.num_experts else 0
    return total(shape) - experts + experts * shape.feedforward_width // shape.total_feedforward_width


def active_non_embedding(shape: Shape) -> int:
    """`active` without embeddings: what laws of dense models, which know no experts, are asked with."""
    return active(shape) - (total(shape) - non_embedding(shape))
