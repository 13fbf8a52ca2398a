"""Stochastic gradient descent with Nesterov's momentum (Sutskever et al. 2013), fused."""

from torch import nn
from torch.optim import SGD

from groundup.parallel.divided import is_divided
from groundup.recipe import TrainRecipe
from groundup.train.optimizers.groups import decay_groups


def sgd(model: nn.Module, settings: TrainRecipe) -> SGD:
    """One momentum a parameter, 4 bytes; `beta1` is the momentum.

    The step is as long as the gradient, so `lr` must be some hundred times that of AdamW.
    """
    # PyTorch's fused step does not know tensors that are divided over devices.
    fused = not any(map(is_divided, model.parameters()))
    groups = decay_groups(model, settings.weight_decay)
    return SGD(groups, lr=0.0, momentum=settings.beta1, nesterov=settings.beta1 > 0, fused=fused)
