"""GPT (Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training"). Objective: causal."""

from functools import partial

from groundup.model.attention import Attention
from groundup.model.decoder import Decoder
from groundup.model.feedforward import GELUFeedForward
from groundup.model.norm import LayerNorm
from groundup.model.registry import register
from groundup.shape import Shape


@register("gpt1")
def gpt1(shape: Shape) -> Decoder:
    """GPT-2's decoder with its norms behind attention and feed-forward, and none at the end."""
    return Decoder(
        shape,
        attention=partial(Attention, bias=True, qk_norm=False),
        feedforward=GELUFeedForward,
        norm=LayerNorm,
        learned_positions=True,
        post_norm=True,
    )
