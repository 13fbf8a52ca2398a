"""The tensors that a file of weights holds, by the pattern of their names: the ledger of any architecture."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

# What some folders keep among the weights without being trained: causal masks, rotary frequencies.
_BUFFERS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: its name, dimensions, number format as safetensors calls it (`BF16`), and bytes."""

    name: str
    dimensions: tuple[int, ...]
    dtype: str
    num_bytes: int

    @property
    def parameters(self) -> int:
        """The number of its elements."""
        return prod(self.dimensions)


@dataclass(frozen=True)
class Pattern:
    """Tensors of equal size whose names differ in numbers alone: `model.layers.{i}.mlp.up_proj.weight`."""

    name: str
    dimensions: tuple[int, ...]
    dtype: str
    copies: int

    @property
    def parameters(self) -> int:
        """The number of elements of all of them."""
        return self.copies * prod(self.dimensions)


def trained(tensors: Iterable[StoredTensor]) -> list[StoredTensor]:
    """Those that are parameters: masks and tables of frequencies are left out."""
    return [tensor for tensor in tensors if not tensor.name.endswith(_BUFFERS)]


def patterns(tensors: Sequence[StoredTensor]) -> list[Pattern]:
    """The tensors by pattern, the largest first."""
    counts: dict[tuple[str, tuple[int, ...], str], int] = {}
    for tensor in tensors:
        key = (re.sub(r"(?<=\.)\d+(?=\.)", "{i}", tensor.name), tensor.dimensions, tensor.dtype)
        counts[key] = counts.get(key, 0) + 1
    found = [Pattern(name, dimensions, dtype, copies) for (name, dimensions, dtype), copies in counts.items()]
    return sorted(found, key=lambda pattern: -pattern.parameters)
