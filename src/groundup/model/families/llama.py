"""Llama (arXiv:2302.13971, arXiv:2407.21783). Objective: causal."""

from functools import partial

from groundup.model.attention import Attention
from groundup.model.decoder import Decoder
from groundup.model.feedforward import SwiGLU
from groundup.model.norm import RMSNorm
from groundup.model.registry import register
from groundup.shape import Shape


@register("llama")
def llama(shape: Shape) -> Decoder:
    """RMSNorm, rotary positions, SwiGLU, grouped-query attention, no biases."""
    return Decoder(
        shape,
        attention=partial(Attention, bias=False, qk_norm=False),
        feedforward=SwiGLU,
        norm=RMSNorm,
        learned_positions=False,
    )
