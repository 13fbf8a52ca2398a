"""The weights that training starts from."""

import torch
from torch import nn

from groundup.model.decoder import Decoder
from groundup.model.norm import LayerNorm, RMSNorm
from groundup.model.position import Rotary


def initialise(model: Decoder, seed: int) -> None:
    """Fill a model's parameters in place.

    Matrices that read the residual stream have a standard deviation of 1/sqrt(fan in), which keeps activations
    at unit scale at every width; those that write into it start at zero, so that every block starts as the
    identity (Zhang et al. 2019, arXiv:1901.09321; as in modded-nanoGPT and nanochat). Embeddings are small,
    0.02 as in GPT-2, so that tied logits start near zero and the first loss is ln V.
    """
    generator = torch.Generator(device="cpu").manual_seed(seed)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            std = 0.0 if name.endswith(("attention.output", "feedforward.down")) else module.in_features**-0.5
            _normal(module.weight, std, generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            _normal(module.weight, 0.02, generator)
        elif isinstance(module, RMSNorm | LayerNorm):
            nn.init.ones_(module.weight)
            if isinstance(module, LayerNorm):
                nn.init.zeros_(module.bias)
        elif isinstance(module, Rotary):
            module.fill()


def _normal(weight: torch.Tensor, std: float, generator: torch.Generator) -> None:
    """Draw on the CPU and copy: the same seed gives the same weights on every device."""
    drawn = torch.empty(weight.shape).normal_(0.0, std, generator=generator) if std else torch.zeros(weight.shape)
    with torch.no_grad():
        weight.copy_(drawn)
