"""How much memory training takes: states that stay, and activations that come and go."""

from groundup.plan.parameters import total
from groundup.shape import Shape, family

# float32 weights, gradients and AdamW's two moments, 4 bytes each.
STATE_BYTES_PER_PARAMETER = 16
# What Python with torch holds before there is a model (measured: 330 MB).
_PROCESS_BYTES = 330 << 20
# The loss is taken in chunks of so many bytes of logits, or rows (`groundup.objective.cross_entropy`).
_CHUNK_BYTES, _CHUNK_ROWS = 4 << 20, 256


def train_bytes(shape: Shape, micro_batch: int, precision: str) -> int:
    """Resident bytes at the peak of a training step."""
    tokens = micro_batch * shape.context
    states = STATE_BYTES_PER_PARAMETER * total(shape)
    return _PROCESS_BYTES + states + loss_bytes(shape) + tokens * activation_bytes(shape, precision)


def loss_bytes(shape: Shape) -> int:
    """Bytes of the loss whatever the batch: a chunk of logits in its three forms, the matrix's gradient twice."""
    chunk = max(_CHUNK_BYTES, _CHUNK_ROWS * 4 * shape.vocabulary_size)
    return 3 * chunk + 2 * 4 * shape.vocabulary_size * shape.width


def activation_bytes(shape: Shape, precision: str) -> int:
    """Bytes a token that the forward pass keeps for the backward pass; of the loss, its input's gradient.

    Counted tensor by tensor for the blocks in `groundup.model`, in the style of Korthikanti et al. 2022
    (arXiv:2205.05198): `size` bytes for what matrix products and attention keep, 4 for norms and residuals.
    """
    size = 2 if precision == "bf16" else 4
    traits = family(shape.family)
    heads_width = shape.num_heads * shape.head_width
    kv_width = shape.num_kv_heads * shape.head_width
    streams = 4 * 4 * shape.width + 2 * size * shape.width
    if traits.norm == "rms" and precision == "bf16":
        # The norms compute in float32 and keep what they were given and what they made in it.
        streams += 4 * shape.width
        streams += 2 * 4 * (heads_width + kv_width) if traits.qk_norm else 0
    attention = size * (3 * heads_width + 3 * kv_width) + 2 * size * shape.num_heads * shape.context
    feedforward = size * shape.feedforward_width * (4 if traits.feedforward == "swiglu" else 2)
    return shape.num_layers * (streams + attention + feedforward) + 2 * 4 * shape.width
