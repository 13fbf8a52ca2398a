"""Qwen3's mixture of experts (arXiv:2505.09388). Objective: causal, and an even load of the experts."""

from functools import partial

from groundup.model.attention import Attention
from groundup.model.decoder import Decoder
from groundup.model.experts import MixtureOfExperts
from groundup.model.norm import RMSNorm
from groundup.model.registry import register
from groundup.shape import Shape


@register("qwen3_moe")
def qwen3_moe(shape: Shape) -> Decoder:
    """Qwen3's decoder in which every feed-forward block is a mixture of experts."""
    return Decoder(
        shape,
        attention=partial(Attention, bias=False, qk_norm=True),
        feedforward=MixtureOfExperts,
        norm=RMSNorm,
        learned_positions=False,
    )
