"""A convolutional network (LeNet-5: LeCun et al. 1998, "Gradient-Based Learning ..."). Objective: labels."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from groundup.errors import UserError
from groundup.model.base import ImageModel
from groundup.model.block import dropout
from groundup.model.linear import Linear
from groundup.model.options import read_options
from groundup.model.pixels import ImageOptions, images_of
from groundup.model.registry import register
from groundup.shape import Shape


class CNNOptions(ImageOptions):
    """And the side of the square that a convolution looks at."""

    kernel: int = Field(default=5, ge=1)


class Convolution(nn.Conv2d):
    """A convolution that keeps the image's size, with ReLU and the greatest of each 2 x 2 behind it."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int):
        super().__init__(channels_in, channels_out, kernel, padding="same")

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H // 2, W // 2)."""
        return F.max_pool2d(F.relu(super().forward(x_BCHW)), 2)

    def initial_values(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Weights that keep the scale of what passes through ReLU (He et al. 2015, arXiv:1502.01852)."""
        shape = self.weight.shape
        std = (2 / shape[1:].numel()) ** 0.5
        assert self.bias is not None
        return {
            "weight": torch.randn(shape, generator=generator) * std,
            "bias": torch.zeros(self.bias.shape),
        }


@register("cnn")
class CNN(ImageModel):
    """`num_layers` convolutions, the first to `width` channels and each other to twice as many; then two layers.

    The first of those is `feedforward_width` wide. Pixels 0..255, (B, channels x side x side) -> logits (B, C).
    """

    def __init__(self, shape: Shape):
        super().__init__(shape)
        self.options = options = read_options(shape, CNNOptions)
        side = options.image_side >> shape.num_layers
        if not side:
            raise UserError(
                f"model.num_layers={shape.num_layers} halves images of {options.image_side} pixels to nothing; "
                f"choose at most {options.image_side.bit_length() - 1}"
            )
        widths = [options.channels, *(shape.width << layer for layer in range(shape.num_layers))]
        self.blocks = nn.ModuleList(
            Convolution(before, behind, options.kernel) for before, behind in pairwise(widths)
        )
        self.hidden = Linear(widths[-1] * side * side, shape.feedforward_width)
        self.dropout = dropout(shape)
        self.classes = Linear(shape.feedforward_width, options.classes)

    @property
    def feature_width(self) -> int:
        """That of the layer before the classes."""
        return self.shape.feedforward_width

    def image_features(self, pixels_BN: Tensor) -> Tensor:
        """What the layer before the classes gives, (B, E)."""
        x_BCHW = images_of(pixels_BN, self.options, self.classes.weight.dtype)
        for block in self.blocks:
            x_BCHW = block(x_BCHW)
        return self.dropout(F.relu(self.hidden(x_BCHW.flatten(1))))

    def forward(self, pixels_BN: Tensor) -> Tensor:
        """Logits (B, classes)."""
        return self.classes(self.image_features(pixels_BN))
