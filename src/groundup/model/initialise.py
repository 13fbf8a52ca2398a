"""The weights that training starts from."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from groundup.model.base import Drawn, Fills
from groundup.model.experts import StackedLinear
from groundup.model.norm import LayerNorm, RMSNorm
from groundup.seeds import derive

_INTO_THE_STREAM = ("attention.output", "feedforward.down", "experts.down")

Place: TypeAlias = Callable[[Tensor, Tensor], None]


@torch.no_grad()
def copy_whole(parameter: Tensor, drawn: Tensor) -> None:
    """Put all of what was drawn into a parameter."""
    parameter.copy_(drawn)


def initialise(model: nn.Module, seed: int, place: Place = copy_whole) -> None:
    """Fill a model's parameters in place.

    Matrices that read the residual stream have a standard deviation of 1/sqrt(fan in), which keeps activations
    at unit scale at every width; those that write into it start at zero, so that every block starts as the
    identity (Zhang et al. 2019, arXiv:1901.09321; as in modded-nanoGPT and nanochat). Embeddings are small,
    0.02 as in GPT-2, so that tied logits start near zero and the first loss is ln V.

    Each tensor is drawn on the CPU, from the seed and its own name: the same seed gives the same weights on every
    device, and to a part of a model the same as to the whole. A module of another kind, or one of these that
    starts from something else, says so itself (`Drawn`). `place(parameter, drawn)` puts a tensor of the
    parameter's shape into it.
    """
    for name, module in model.named_modules():
        if isinstance(module, Drawn):
            generator = torch.Generator().manual_seed(derive(seed, name))
            for own, value in module.initial_values(generator).items():
                place(getattr(module, own), value)
        elif isinstance(module, nn.Linear | StackedLinear):
            std = 0.0 if name.endswith(_INTO_THE_STREAM) else module.in_features**-0.5
            place(module.weight, _normal(module.weight, std, derive(seed, name)))
            if isinstance(module, nn.Linear) and module.bias is not None:
                place(module.bias, torch.zeros(module.bias.shape))
        elif isinstance(module, nn.Embedding):
            place(module.weight, _normal(module.weight, 0.02, derive(seed, name)))
        elif isinstance(module, RMSNorm | LayerNorm):
            place(module.weight, torch.ones(module.weight.shape))
            if isinstance(module, LayerNorm):
                place(module.bias, torch.zeros(module.bias.shape))
        if isinstance(module, Fills):
            module.fill()


def _normal(weight: Tensor, std: float, seed: int) -> Tensor:
    if std == 0.0:
        return torch.zeros(weight.shape)
    return torch.empty(weight.shape).normal_(0.0, std, generator=torch.Generator().manual_seed(seed))
