"""Adafactor (Shazeer and Stern 2018, arXiv:1804.04235): second moments of a matrix by its rows and columns."""

from torch import nn
from torch.optim import Adafactor

from groundup.recipe import TrainRecipe
from groundup.train.optimizers.groups import decay_groups

# Its step is a share of the root mean square of the parameter itself, which is about 0.02 here.
_LR_SCALE = 10.0


def adafactor(model: nn.Module, settings: TrainRecipe) -> Adafactor:
    """Almost no state: R + C numbers for an R x C matrix. Without momentum, `beta1` and `beta2` do not count."""
    groups = [group | {"lr_scale": _LR_SCALE} for group in decay_groups(model, settings.weight_decay / _LR_SCALE)]
    return Adafactor(groups, lr=0.0)
