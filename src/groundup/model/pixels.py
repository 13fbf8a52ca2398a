"""What classifiers of images have in common: their options, and how rows of pixels become images."""

import torch
from pydantic import Field
from torch import Tensor

from groundup.errors import UserError
from groundup.model.options import Options


class ImageOptions(Options):
    """The images' size, height and width alike, and how many classes there are."""

    image_side: int = Field(default=28, ge=1)
    channels: int = Field(default=1, ge=1)
    classes: int = Field(default=10, ge=2)


def images_of(pixels_BN: Tensor, options: ImageOptions, dtype: torch.dtype) -> Tensor:
    """Rows of pixels 0..255, one channel after the other, as images (B, channels, side, side).

    Values are from -1 to 1, in `dtype`. UserError where they are not so many as the options say.
    """
    side, channels = options.image_side, options.channels
    if pixels_BN.shape[1] != channels * side * side:
        raise UserError(
            f"the images have {pixels_BN.shape[1]} pixels, but model.options.image_side={side} and "
            f"model.options.channels={channels} ask for {channels * side * side}; set them as the images are"
        )
    return (pixels_BN.float() / 127.5 - 1.0).to(dtype).unflatten(1, (channels, side, side))
