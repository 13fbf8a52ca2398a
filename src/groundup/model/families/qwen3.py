"""Qwen3 (arXiv:2505.09388): the Llama decoder with normalised queries and keys. Objective: causal."""

from functools import partial

from groundup.model.attention import Attention
from groundup.model.decoder import Decoder
from groundup.model.feedforward import SwiGLU
from groundup.model.norm import RMSNorm
from groundup.model.registry import register
from groundup.shape import Shape


@register("qwen3")
def qwen3(shape: Shape) -> Decoder:
    """RMSNorm, rotary positions, SwiGLU, grouped-query attention with QK-norm, no biases."""
    return Decoder(
        shape,
        attention=partial(Attention, bias=False, qk_norm=True),
        feedforward=SwiGLU,
        norm=RMSNorm,
        learned_positions=False,
    )
