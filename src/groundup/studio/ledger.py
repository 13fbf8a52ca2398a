"""The ledger of a model's parameters: which matrices there are, what for, and how large their share is."""

from math import prod
from typing import Any, NamedTuple

from groundup.plan.parameters import ledger, total
from groundup.shape import Shape, family

_GROUPS = {
    "embeddings": ("embedding", "position", "unembedding"),
    "attention": ("query", "key", "value", "output"),
    "feed-forward": ("gate", "up", "down"),
    "norms": ("norm",),
}
_ROLES = {
    "embedding": "a vector for each token of the vocabulary",
    "position": "a vector for each place in the context",
    "unembedding": "a score for each token that could come next",
    "query": "what a token looks for in those before it",
    "key": "what a token is found by",
    "value": "what a token passes on when it is found",
    "output": "brings what the heads found back into the stream",
    "gate": "decides how far each feature opens",
    "up": "asks each token for a wide row of features",
    "down": "adds what the features mean to the stream",
    "norm": "keeps the numbers of the stream in proportion",
}


class Tensors(NamedTuple):
    """`copies` tensors of the same dimensions."""

    copies: int
    dimensions: tuple[int, ...]

    @property
    def parameters(self) -> int:
        """The number of their elements."""
        return self.copies * prod(self.dimensions)

    def __str__(self) -> str:
        dimensions = " × ".join(f"{size:,}" for size in self.dimensions)
        return dimensions if self.copies == 1 else f"{self.copies} of {dimensions}"


def ledger_rows(shape: Shape) -> list[dict[str, Any]]:
    """A row for each category of parameters that `shape` has: category, group, role, tensors, parameters, share.

    An unembedding that is the embedding, transposed, has no row.
    """
    counts = ledger(shape)
    whole = total(shape)
    return [
        {
            "name": category,
            "group": group,
            "role": _ROLES[category],
            "tensors": [str(tensors) for tensors in tensors_of(shape)[category]],
            "parameters": counts[category],
            "share": counts[category] / whole,
        }
        for group, categories in _GROUPS.items()
        for category in categories
        if counts[category]
    ]


def tensors_of(shape: Shape) -> dict[str, list[Tensors]]:
    """The tensors of each category; matrices are out × in, as torch keeps them."""
    traits = family(shape.family)
    layers, width, inner = shape.num_layers, shape.width, shape.feedforward_width
    heads_width = shape.num_heads * shape.head_width
    kv_width = shape.num_kv_heads * shape.head_width
    has_feedforward_bias = traits.feedforward == "gelu"

    def matrices(out: int, into: int, bias: bool) -> list[Tensors]:
        return [Tensors(layers, (out, into)), *([Tensors(layers, (out,))] if bias else [])]

    norm_tensors = 2 if traits.norm == "layer" else 1  # scale and shift, or scale alone
    norms = [Tensors((2 * layers + 1) * norm_tensors, (width,))]
    if traits.qk_norm:
        norms.append(Tensors(2 * layers, (shape.head_width,)))
    return {
        "embedding": [Tensors(1, (shape.vocabulary_size, width))],
        "position": [Tensors(1, (shape.context, width))] if traits.position == "learned" else [],
        "query": matrices(heads_width, width, traits.bias),
        "key": matrices(kv_width, width, traits.bias),
        "value": matrices(kv_width, width, traits.bias),
        "output": matrices(width, heads_width, traits.bias),
        "gate": matrices(inner, width, bias=False) if traits.feedforward == "swiglu" else [],
        "up": matrices(inner, width, has_feedforward_bias),
        "down": matrices(width, inner, has_feedforward_bias),
        "norm": norms,
        "unembedding": [] if shape.tied else [Tensors(1, (shape.vocabulary_size, width))],
    }
