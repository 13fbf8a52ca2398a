"""The encoder: a stack of blocks in which every token sees all others, on both sides (Devlin et al. 2018)."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.errors import UserError
from groundup.model.attention import Attention
from groundup.model.base import TextModel
from groundup.model.block import PostNormBlock, dropout
from groundup.model.feedforward import FeedForward
from groundup.model.linear import Linear
from groundup.model.norm import LayerNorm
from groundup.shape import Shape

NUM_SEGMENTS = 2


class Encoder(TextModel):
    """The body of BERT (arXiv:1810.04805): ids (B, T) int64 -> features (B, T, D).

    Embeddings of token, position and segment are added and normalised; post-norm blocks with biases and the exact
    GELU follow. Heads are the family's. UserError for heads that share keys, or do not divide the width.
    """

    frame = "enclosed"

    def __init__(self, shape: Shape):
        super().__init__(shape)
        if shape.num_kv_heads != shape.num_heads or shape.num_heads * shape.head_width != shape.width:
            raise UserError(
                f"{shape.family} needs num_kv_heads = num_heads and num_heads * head_width = width, but has "
                f"{shape.num_kv_heads}, {shape.num_heads}, {shape.head_width} and {shape.width}; "
                "leave model.num_kv_heads and model.head_width unset"
            )
        attention = partial(Attention, bias=True, qk_norm=False, causal=False)
        feedforward = partial(FeedForward, activation=F.gelu)
        self.embedding = nn.Embedding(shape.vocabulary_size, shape.width)
        self.positions = nn.Embedding(shape.context, shape.width)
        self.segments = nn.Embedding(NUM_SEGMENTS, shape.width)
        self.embedding_norm = LayerNorm(shape.width, shape.norm_epsilon)
        self.dropout = dropout(shape)
        self.blocks = nn.ModuleList(
            PostNormBlock(shape, attention, feedforward, LayerNorm) for _ in range(shape.num_layers)
        )

    def features(self, ids_BT: Tensor, segments_BT: Tensor | None = None, keep_BT: Tensor | None = None) -> Tensor:
        """What the last block makes of each token, (B, T, D).

        `segments_BT` (int64) says which of two texts a token belongs to, by default all to the first; `keep_BT`
        (bool) is false at padding, which no token then sees. Each row keeps at least one token.
        """
        x_BTD = self.embed(ids_BT, segments_BT)
        mask_B11T = None if keep_BT is None else keep_BT[:, None, None, :]
        for block in self.blocks:
            x_BTD = block(x_BTD, None, None, mask_B11T)
        return x_BTD

    def embed(self, ids_BT: Tensor, segments_BT: Tensor | None = None) -> Tensor:
        """What enters the first block, (B, T, D)."""
        if segments_BT is None:
            segments_BT = torch.zeros_like(ids_BT)
        positions_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        x_BTD = self.embedding(ids_BT) + self.positions(positions_T) + self.segments(segments_BT)
        return self.dropout(self.embedding_norm(x_BTD))

    def text_features(self, ids_BT: Tensor, keep_BT: Tensor | None = None) -> Tensor:
        """`features` of a single text."""
        return self.features(ids_BT, keep_BT=keep_BT)


class Transform(nn.Module):
    """norm(GELU(dense(x))), with which BERT's head begins: (..., D) -> (..., D)."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.dense = Linear(shape.width, shape.width)
        self.norm = LayerNorm(shape.width, shape.norm_epsilon)

    def forward(self, x: Tensor) -> Tensor:
        """Of any leading dimensions."""
        return self.norm(F.gelu(self.dense(x)))
