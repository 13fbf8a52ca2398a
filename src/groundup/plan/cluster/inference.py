"""How much memory it takes to serve a model: its weights, and the keys and values of everything being read."""

from dataclasses import dataclass

from groundup.errors import UserError
from groundup.plan.parameters import total
from groundup.shape import Shape


@dataclass(frozen=True)
class InferenceMemory:
    """Bytes on each device: weights, the cache of keys and values, and the logits of the tokens that come next."""

    weights: float
    cache: float
    logits: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.weights + self.cache + self.logits


def inference_memory(
    shape: Shape,
    batch: int,
    context: int,
    *,
    weight_bits: float = 16,
    cache_bits: float = 16,
    tensor: int = 1,
) -> InferenceMemory:
    """Memory of `batch` sequences of `context` tokens each, on each of `tensor` devices that share the model.

    A group of more devices than there are key/value heads keeps copies of them (as Megatron-LM and vLLM do). Block
    constants of quantized weights, about half a bit each, are left out.

    Raises:
        UserError: `tensor` does not divide the heads.
    """
    if shape.num_heads % tensor:
        raise UserError(f"tensor={tensor} does not divide the model's {shape.num_heads} heads")
    return InferenceMemory(
        weights=total(shape) * weight_bits / 8 / tensor,
        cache=batch * context * cache_bytes_per_token(shape, cache_bits) / min(tensor, shape.num_kv_heads),
        logits=4 * batch * shape.vocabulary_size / tensor,
    )


def cache_bytes_per_token(shape: Shape, cache_bits: float = 16) -> float:
    """2 L k d B: a key and a value for every layer and key/value head (Shazeer 2019, arXiv:1911.02150)."""
    return 2 * shape.num_layers * shape.num_kv_heads * shape.head_width * cache_bits / 8
