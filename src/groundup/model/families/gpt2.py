"""GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"). Objective: causal."""

from functools import partial

from groundup.model.attention import Attention
from groundup.model.decoder import Decoder
from groundup.model.feedforward import GELUFeedForward
from groundup.model.norm import LayerNorm
from groundup.model.registry import register
from groundup.shape import Shape


@register("gpt2")
def gpt2(shape: Shape) -> Decoder:
    """LayerNorm, learned positions, GELU, multi-head attention, biases."""
    return Decoder(
        shape,
        attention=partial(Attention, bias=True, qk_norm=False),
        feedforward=GELUFeedForward,
        norm=LayerNorm,
        learned_positions=True,
    )
