"""The Transformer (Vaswani et al. 2017, "Attention Is All You Need", arXiv:1706.03762). Objective: translation."""

import math
from functools import partial

import torch.nn.functional as F
from pydantic import Field

from groundup.model.attention import Attention
from groundup.model.encoder_decoder import EncoderDecoder
from groundup.model.feedforward import FeedForward
from groundup.model.norm import LayerNorm
from groundup.model.options import Options, read_options
from groundup.model.registry import register
from groundup.shape import Shape


class TransformerOptions(Options):
    """`pre_norm`: norms before attention and feed-forward, which trains without warm-up (arXiv:2002.04745)."""

    pre_norm: bool = False
    decoder_layers: int | None = Field(default=None, ge=1)


@register("transformer")
def transformer(shape: Shape) -> EncoderDecoder:
    """Post-norm, sinusoidal positions, ReLU, biases; as many layers in the decoder unless it is said."""
    options = read_options(shape, TransformerOptions)
    return EncoderDecoder(
        shape,
        decoder_layers=options.decoder_layers or shape.num_layers,
        attention=partial(Attention, bias=True, qk_norm=False),
        feedforward=partial(FeedForward, activation=F.relu),
        norm=LayerNorm,
        post_norm=not options.pre_norm,
        # So that embeddings have unit scale where they are read, and logits where they are made.
        embedding_std=shape.width**-0.5,
        embedding_scale=math.sqrt(shape.width),
    )
