"""AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), fused."""

from torch import nn
from torch.optim import AdamW

from groundup.recipe import TrainRecipe
from groundup.train.optimizers.groups import decay_groups


def adamw(model: nn.Module, settings: TrainRecipe) -> AdamW:
    """Two moments a parameter, 8 bytes."""
    groups = decay_groups(model, settings.weight_decay)
    return AdamW(groups, lr=0.0, betas=(settings.beta1, settings.beta2), eps=settings.epsilon, fused=True)
