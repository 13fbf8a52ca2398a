"""The Vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929). Objective: labels."""

from functools import partial

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from groundup.errors import UserError
from groundup.model.attention import Attention
from groundup.model.base import ImageModel
from groundup.model.block import Block, dropout
from groundup.model.feedforward import FeedForward
from groundup.model.linear import Linear
from groundup.model.norm import LayerNorm
from groundup.model.options import read_options
from groundup.model.pixels import ImageOptions, images_of
from groundup.model.registry import register
from groundup.shape import Shape


class ViTOptions(ImageOptions):
    """And the side of the squares that an image is cut into."""

    patch: int = Field(default=7, ge=1)


class Patches(nn.Module):
    """An image as a sequence: a class token, then its patches row by row, each with the embedding of its place."""

    def __init__(self, width: int, options: ViTOptions):
        super().__init__()
        self.patch, across = options.patch, options.image_side // options.patch
        if options.image_side % options.patch:
            raise UserError(
                f"model.options.patch={options.patch} does not divide model.options.image_side="
                f"{options.image_side}; choose a divisor"
            )
        self.embedding = Linear(options.channels * self.patch**2, width)
        self.class_token_D = nn.Parameter(torch.zeros(width))
        self.positions_TD = nn.Parameter(torch.zeros(1 + across**2, width))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1 + patches, D)."""
        patches_BTN = F.unfold(images_BCHW, self.patch, stride=self.patch).transpose(1, 2)
        class_B1D = self.class_token_D.expand(len(images_BCHW), 1, -1)
        return torch.cat([class_B1D, self.embedding(patches_BTN)], 1) + self.positions_TD

    def initial_values(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Small random ones, as of other embeddings."""
        own = {"class_token_D": self.class_token_D.shape, "positions_TD": self.positions_TD.shape}
        return {name: 0.02 * torch.randn(shape, generator=generator) for name, shape in own.items()}


@register("vit")
class ViT(ImageModel):
    """A Transformer encoder with norms before its parts, over patches of an image; the class token answers.

    Pixels 0..255, (B, channels x side x side) -> logits (B, classes).
    """

    def __init__(self, shape: Shape):
        super().__init__(shape)
        self.options = read_options(shape, ViTOptions)
        self.patches = Patches(shape.width, self.options)
        self.dropout = dropout(shape)
        attention = partial(Attention, bias=True, qk_norm=False, causal=False)
        feedforward = partial(FeedForward, activation=F.gelu)
        self.blocks = nn.ModuleList(
            Block(shape, attention, feedforward, LayerNorm) for _ in range(shape.num_layers)
        )
        self.norm = LayerNorm(shape.width, shape.norm_epsilon)
        self.classes = Linear(shape.width, self.options.classes)

    @property
    def feature_width(self) -> int:
        """That of the class token."""
        return self.shape.width

    def image_features(self, pixels_BN: Tensor) -> Tensor:
        """What the class token has gathered, (B, D)."""
        x_BTD = self.dropout(self.patches(images_of(pixels_BN, self.options, self.classes.weight.dtype)))
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return self.norm(x_BTD)[:, 0]

    def forward(self, pixels_BN: Tensor) -> Tensor:
        """Logits (B, classes)."""
        return self.classes(self.image_features(pixels_BN))
