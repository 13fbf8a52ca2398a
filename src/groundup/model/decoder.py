"""The decoder: embedding, a stack of blocks on one residual stream, and the way back to words."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.model.base import TextModel
from groundup.model.block import Block, BlockPart, NormMaker, PostNormBlock, dropout
from groundup.model.cache import KeyValueCache, LayerCache
from groundup.model.linear import Linear
from groundup.model.position import Rotary
from groundup.shape import Shape


class DocumentMask(nn.Module):
    """Where attention may look in a window of several documents."""

    def forward(self, documents_BT: Tensor | None) -> Tensor | None:
        """(B, 1, T, T), true at the same document's tokens up to the query's own; None without documents."""
        if documents_BT is None:
            return None
        return (documents_BT[:, None, :, None] == documents_BT[:, None, None, :]).tril()


class Decoder(TextModel):
    """A causal language model: ids (B, T) int64 -> logits (B, T, V).

    A family gives its attention, feed-forward and norm; with `shape.tied` the unembedding is the embedding's
    own weight (Press and Wolf 2017, arXiv:1608.05859). Positions are learned (an embedding a position) or rotary.
    Norms stand before attention and feed-forward, and once more at the end; or only behind them (`post_norm`).
    """

    def __init__(
        self,
        shape: Shape,
        *,
        attention: BlockPart,
        feedforward: BlockPart,
        norm: NormMaker,
        learned_positions: bool,
        post_norm: bool = False,
    ):
        super().__init__(shape)
        self.embedding = nn.Embedding(shape.vocabulary_size, shape.width)
        self.positions = nn.Embedding(shape.context, shape.width) if learned_positions else None
        self.rotary = None if learned_positions else Rotary(shape.head_width, shape.context, shape.rope_theta)
        self.mask = DocumentMask()
        self.dropout = dropout(shape)
        block = PostNormBlock if post_norm else Block
        self.blocks = nn.ModuleList(block(shape, attention, feedforward, norm) for _ in range(shape.num_layers))
        self.norm = nn.Identity() if post_norm else norm(shape.width, shape.norm_epsilon)
        self.unembedding = None if shape.tied else Linear(shape.width, shape.vocabulary_size, bias=False)

    def forward(
        self, ids_BT: Tensor, cache: KeyValueCache | None = None, *, documents_BT: Tensor | None = None
    ) -> Tensor:
        """Logits (B, T, V) of the token after each position; with a cache, the ids follow those stored in it.

        `documents_BT` numbers the document of each id: attention then keeps to the same number. Positions count
        on: rotary ones do not notice, and learned ones are thus all learned.
        """
        return self.unembed(self.features(ids_BT, cache, documents_BT=documents_BT))

    def features(
        self, ids_BT: Tensor, cache: KeyValueCache | None = None, *, documents_BT: Tensor | None = None
    ) -> Tensor:
        """The residual stream (B, T, D) after the last block and norm; arguments as in `forward`."""
        assert cache is None or documents_BT is None, "a cache holds one document"
        x_BTD = self.embed(ids_BT, cache.length if cache else 0)
        mask_B1TT = self.mask(documents_BT)
        for index, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, self.rotary, cache.layers[index] if cache else None, mask_B1TT)
        return self.norm(x_BTD)

    def embed(self, ids_BT: Tensor, start: int = 0) -> Tensor:
        """The residual stream (B, T, D) before the first block; the ids stand at `start` and behind it."""
        x_BTD = self.embedding(ids_BT)
        if self.positions is not None:
            x_BTD = x_BTD + self.positions(torch.arange(start, start + ids_BT.shape[1], device=ids_BT.device))
        return self.dropout(x_BTD)

    def text_features(self, ids_BT: Tensor, keep_BT: Tensor | None = None) -> Tensor:
        """The residual stream (B, T, D): no token sees the padding behind it."""
        del keep_BT
        return self.features(ids_BT)

    def unembed(self, x_BTD: Tensor) -> Tensor:
        """Logits (B, T, V) from the residual stream."""
        return F.linear(x_BTD, self.unembedding_weight)

    @property
    def unembedding_weight(self) -> Tensor:
        """The matrix (V, D) that gives logits: with tied weights the embedding's own."""
        return self.embedding.weight if self.unembedding is None else self.unembedding.weight

    def new_cache(self, batch: int = 1, capacity: int | None = None) -> KeyValueCache:
        """An empty key/value cache for `capacity` tokens a row, without it `shape.context`."""
        shape, like = self.shape, self.embedding.weight
        return KeyValueCache(
            [
                LayerCache(batch, shape.num_kv_heads, capacity or shape.context, shape.head_width, like)
                for _ in range(shape.num_layers)
            ]
        )
