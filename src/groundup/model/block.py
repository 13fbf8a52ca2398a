"""A block: attention and feed-forward on one residual stream, with their norms before or behind."""

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor, nn

from groundup.model.cache import LayerCache
from groundup.model.position import Rotary
from groundup.shape import Shape

BlockPart: TypeAlias = Callable[[Shape], nn.Module]
NormMaker: TypeAlias = Callable[[int, float], nn.Module]


class Block(nn.Module):
    """x + attention(norm(x)), then x + feedforward(norm(x)) (pre-norm: Xiong et al. 2020, arXiv:2002.04745).

    While training, `shape.dropout` leaves out parts of what is added (Srivastava et al. 2014).
    """

    def __init__(self, shape: Shape, attention: BlockPart, feedforward: BlockPart, norm: NormMaker):
        super().__init__()
        self.attention_norm = norm(shape.width, shape.norm_epsilon)
        self.attention = attention(shape)
        self.feedforward_norm = norm(shape.width, shape.norm_epsilon)
        self.feedforward = feedforward(shape)
        self.dropout = dropout(shape)

    def forward(
        self,
        x_BTD: Tensor,
        rotary: Rotary | None = None,
        cache: LayerCache | None = None,
        mask_TS: Tensor | None = None,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x_BTD = x_BTD + self.dropout(self.attention(self.attention_norm(x_BTD), rotary, cache, mask_TS))
        return x_BTD + self.dropout(self.feedforward(self.feedforward_norm(x_BTD)))


class PostNormBlock(Block):
    """norm(x + attention(x)), then norm(x + feedforward(x)), as in the first Transformers (arXiv:1706.03762)."""

    def forward(
        self,
        x_BTD: Tensor,
        rotary: Rotary | None = None,
        cache: LayerCache | None = None,
        mask_TS: Tensor | None = None,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x_BTD = self.attention_norm(x_BTD + self.dropout(self.attention(x_BTD, rotary, cache, mask_TS)))
        return self.feedforward_norm(x_BTD + self.dropout(self.feedforward(x_BTD)))


def dropout(shape: Shape) -> nn.Module:
    """Leaves out `shape.dropout` of the activations while training; nothing costs nothing."""
    return nn.Dropout(shape.dropout) if shape.dropout else nn.Identity()
