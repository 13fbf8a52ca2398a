"""The key/value cache: what attention has computed for earlier tokens, kept so that each new one is cheap."""

import torch
from torch import Tensor


class LayerCache:
    """Keys and values of one attention layer, (B, K, capacity, head_width)."""

    def __init__(self, batch: int, num_kv_heads: int, capacity: int, head_width: int, like: Tensor):
        self.keys = like.new_empty(batch, num_kv_heads, capacity, head_width)
        self.values = torch.empty_like(self.keys)
        self.length = 0

    def append(self, keys_BKTd: Tensor, values_BKTd: Tensor) -> tuple[Tensor, Tensor]:
        """Store the keys and values of new tokens; return those of all tokens so far."""
        end = self.length + keys_BKTd.shape[2]
        self.keys[:, :, self.length : end] = keys_BKTd
        self.values[:, :, self.length : end] = values_BKTd
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def reorder(self, index_B: Tensor) -> None:
        """Let row b go on from what row `index_B[b]` holds."""
        for stored in (self.keys, self.values):
            stored[:, :, : self.length] = stored[index_B, :, : self.length]

    def select(self, index_N: Tensor) -> None:
        """Go on with these rows only, in this order, and give the others' memory back."""
        _, heads, capacity, width = self.keys.shape
        for name in ("keys", "values"):
            stored = getattr(self, name)
            kept = stored.new_empty(len(index_N), heads, capacity, width)
            kept[:, :, : self.length] = stored[index_N, :, : self.length]
            setattr(self, name, kept)


class KeyValueCache:
    """One `LayerCache` a layer; `length` counts the tokens stored."""

    def __init__(self, layers: list[LayerCache]):
        self.layers = layers

    @property
    def length(self) -> int:
        """How many tokens the cache holds."""
        return self.layers[0].length

    def select(self, index_N: Tensor) -> None:
        """Go on with these rows only."""
        for layer in self.layers:
            layer.select(index_N)

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        for layer in self.layers:
            layer.length = length
