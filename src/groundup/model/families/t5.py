"""T5 (Raffel et al. 2020, arXiv:1910.10683) and its version 1.1 (arXiv:2002.05202). Objective: denoising."""

from functools import partial

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from groundup.errors import UserError
from groundup.model.attention import Attention
from groundup.model.encoder_decoder import EncoderDecoder
from groundup.model.feedforward import FeedForward, GatedFeedForward, gelu_tanh
from groundup.model.linear import Linear
from groundup.model.norm import RMSNorm
from groundup.model.options import Options, read_options
from groundup.model.position_bias import RelativeBias
from groundup.model.registry import register
from groundup.shape import Shape


class T5Options(Options):
    """`gated`: the feed-forward block of version 1.1; its logits are those of `tied=false`."""

    gated: bool = False
    decoder_layers: int | None = Field(default=None, ge=1)
    num_buckets: int = Field(default=32, ge=4, multiple_of=4)
    max_distance: int = Field(default=128, ge=2)


class UnscaledQuery(Linear):
    """A query of which dot products are not scaled; it starts as much smaller (arXiv:1910.10683's code)."""

    def __init__(self, width: int, heads_width: int, head_width: int):
        super().__init__(width, heads_width, bias=False)
        self.head_width = head_width

    def initial_values(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Normal ones, with a standard deviation of 1 / sqrt(width * head width)."""
        std = (self.in_features * self.head_width) ** -0.5
        return {"weight": torch.empty(self.weight.shape).normal_(0.0, std, generator=generator)}


class T5Attention(Attention):
    """Attention without biases, and without the scale of dot products."""

    def __init__(self, shape: Shape, *, causal: bool):
        super().__init__(shape, bias=False, qk_norm=False, causal=causal, scale=1.0)
        self.query = UnscaledQuery(shape.width, shape.num_heads * shape.head_width, shape.head_width)


@register("t5")
def t5(shape: Shape) -> EncoderDecoder:
    """RMSNorm before each part, relative positions, ReLU or a gated GELU; tied logits are scaled down."""
    options = read_options(shape, T5Options)
    if 2 * options.max_distance <= options.num_buckets:
        raise UserError(
            f"model.options.max_distance={options.max_distance} is no more than half of model.options.num_buckets="
            f"{options.num_buckets}, each of which is for one distance; choose fewer buckets"
        )
    plain = partial(FeedForward, activation=F.relu, bias=False)
    return EncoderDecoder(
        shape,
        decoder_layers=options.decoder_layers or shape.num_layers,
        attention=T5Attention,
        feedforward=partial(GatedFeedForward, activation=gelu_tanh) if options.gated else plain,
        norm=RMSNorm,
        make_bias=partial(RelativeBias, options.num_buckets, options.max_distance, shape.num_heads),
        embedding_std=1.0,
        logit_scale=shape.width**-0.5 if shape.tied else 1.0,
    )
