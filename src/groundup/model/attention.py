"""Attention: each token gathers from the tokens before it what its query asks for."""

from torch import Tensor, nn

from groundup.model.cache import LayerCache
from groundup.model.dot_product import DotProduct
from groundup.model.linear import Linear
from groundup.model.norm import RMSNorm
from groundup.model.position import Rotary
from groundup.shape import Shape


class Attention(nn.Module):
    """Multi-head attention with grouped keys and values; causal unless it is said to be otherwise.

    Scaled dot products (Vaswani et al. 2017, arXiv:1706.03762); query heads share key/value heads in groups
    (Ainslie et al. 2023, arXiv:2305.13245); optionally queries and keys are normalised first
    (Henry et al. 2020, arXiv:2010.04245; as in Qwen3) and turned by rotary positions. `scale` as in `attend`.
    """

    def __init__(
        self, shape: Shape, *, bias: bool, qk_norm: bool, causal: bool = True, scale: float | None = None
    ):
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_width = (
            shape.num_heads,
            shape.num_kv_heads,
            shape.head_width,
        )
        heads_width, kv_width = shape.num_heads * shape.head_width, shape.num_kv_heads * shape.head_width
        self.query = Linear(shape.width, heads_width, bias=bias)
        self.key = Linear(shape.width, kv_width, bias=bias)
        self.value = Linear(shape.width, kv_width, bias=bias)
        self.output = Linear(heads_width, shape.width, bias=bias)
        self.dot_product = DotProduct(causal=causal, scale=scale)
        self.query_norm = RMSNorm(shape.head_width, shape.norm_epsilon) if qk_norm else None
        self.key_norm = RMSNorm(shape.head_width, shape.norm_epsilon) if qk_norm else None

    def forward(
        self,
        x_BTD: Tensor,
        rotary: Rotary | None = None,
        cache: LayerCache | None = None,
        mask_TS: Tensor | None = None,
        *,
        memory_BSD: Tensor | None = None,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D); with a cache, the T tokens follow those already stored.

        `mask_TS` as in `attend`; None lets each token look at itself and at everything before it, or at all. With
        `memory_BSD` keys and values are made of that: cross-attention.
        """
        seen_BSD = x_BTD if memory_BSD is None else memory_BSD
        query_BHTd = self._heads(self.query(x_BTD))
        key_BKTd = self._heads(self.key(seen_BSD))
        value_BKTd = self._heads(self.value(seen_BSD))
        if self.query_norm is not None and self.key_norm is not None:
            query_BHTd, key_BKTd = self.query_norm(query_BHTd), self.key_norm(key_BKTd)
        start = cache.length if cache else 0
        if rotary is not None:
            query_BHTd, key_BKTd = rotary(query_BHTd, start), rotary(key_BKTd, start)
        if cache is not None:
            key_BKTd, value_BKTd = cache.append(key_BKTd, value_BKTd)
        mixed_BHTd = self.dot_product(query_BHTd, key_BKTd, value_BKTd, mask_TS)
        return self.output(mixed_BHTd.transpose(1, 2).flatten(2))

    def _heads(self, x_BTE: Tensor) -> Tensor:
        return x_BTE.unflatten(-1, (-1, self.head_width)).transpose(1, 2)
