"""Which tensors a shape is made of, by category."""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from groundup.shape import Shape, decoder_family


class Tensors(NamedTuple):
    """`copies` tensors of the same dimensions."""

    copies: int
    dimensions: tuple[int, ...]

    @property
    def parameters(self) -> int:
        """The number of their elements."""
        return self.copies * prod(self.dimensions)

    @property
    def size(self) -> str:
        """The dimensions of one of them: `4,096 × 1,024`."""
        return size_text(self.dimensions)

    def __str__(self) -> str:
        return self.size if self.copies == 1 else f"{self.copies} of {self.size}"


def size_text(dimensions: Sequence[int]) -> str:
    """Dimensions as people write them: `4,096 × 1,024`."""
    return " × ".join(f"{size:,}" for size in dimensions)


def tensors_of(shape: Shape) -> dict[str, list[Tensors]]:
    """The tensors of each category; matrices are out × in, as torch keeps them; experts' are stacked."""
    traits = decoder_family(shape.family)
    layers, width, inner = shape.num_layers, shape.width, shape.expert_width or shape.feedforward_width
    heads_width = shape.num_heads * shape.head_width
    kv_width = shape.num_kv_heads * shape.head_width
    has_feedforward_bias = traits.feedforward == "gelu"

    def matrices(out: int, into: int, bias: bool) -> list[Tensors]:
        return [Tensors(layers, (out, into)), *([Tensors(layers, (out,))] if bias else [])]

    def feedforward(out: int, into: int, bias: bool) -> list[Tensors]:
        if shape.num_experts:
            return [Tensors(layers, (shape.num_experts, out, into))]
        return matrices(out, into, bias)

    norm_tensors = 2 if traits.norm == "layer" else 1  # scale and shift, or scale alone
    norms = [Tensors((2 * layers + (not traits.post_norm)) * norm_tensors, (width,))]
    if traits.qk_norm:
        norms.append(Tensors(2 * layers, (shape.head_width,)))
    return {
        "embedding": [Tensors(1, (shape.vocabulary_size, width))],
        "position": [Tensors(1, (shape.context, width))] if traits.position == "learned" else [],
        "query": matrices(heads_width, width, traits.bias),
        "key": matrices(kv_width, width, traits.bias),
        "value": matrices(kv_width, width, traits.bias),
        "output": matrices(width, heads_width, traits.bias),
        "gate": feedforward(inner, width, bias=False) if traits.feedforward == "swiglu" else [],
        "up": feedforward(inner, width, has_feedforward_bias),
        "down": feedforward(width, inner, has_feedforward_bias),
        "router": matrices(shape.num_experts, width, bias=False) if shape.num_experts else [],
        "norm": norms,
        "unembedding": [] if shape.tied else [Tensors(1, (shape.vocabulary_size, width))],
    }


def product_matrices(shape: Shape) -> dict[str, Tensors]:
    """The matrices that a token is multiplied with or looked up in, as textbooks count a model's parameters.

    Embedding and unembedding each, tied or not; no biases, norms or learned positions.
    """
    matrices = {
        category: _unstacked(tensors[0])
        for category, tensors in tensors_of(shape).items()
        if tensors and category not in ("position", "norm")
    }
    return matrices | {"unembedding": matrices["embedding"]}


def _unstacked(tensors: Tensors) -> Tensors:
    """Each matrix of a stack for itself."""
    *stack, out, into = tensors.dimensions
    return Tensors(tensors.copies * prod(stack), (out, into))


def heads_of(shape: Shape) -> dict[str, int]:
    """How many heads share the one matrix of a layer in each category of attention."""
    kv_heads = shape.num_kv_heads
    return {"query": shape.num_heads, "key": kv_heads, "value": kv_heads, "output": shape.num_heads}
