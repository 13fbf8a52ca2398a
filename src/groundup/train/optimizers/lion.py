"""Lion (Chen et al. 2023, arXiv:2302.06675): the sign of an interpolation of gradient and momentum."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from groundup.recipe import TrainRecipe
from groundup.train.optimizers.groups import decay_groups

# Every entry moves by the whole learning rate: the paper takes a third to a tenth of AdamW's, and more decay.
_LR_SCALE = 0.2


class Lion(Optimizer):
    """One momentum a parameter, 4 bytes."""

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]):
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step from the gradients that are there; `closure` is not supported."""
        assert closure is None
        for group in self.param_groups:
            parameters: list[Tensor] = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            momenta = [self._momentum(parameter) for parameter in parameters]
            beta1, beta2 = group["betas"]
            directions = torch._foreach_mul(momenta, beta1)
            torch._foreach_add_(directions, gradients, alpha=1 - beta1)
            torch._foreach_sign_(directions)
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, directions, alpha=-group["lr"])
            torch._foreach_lerp_(momenta, gradients, 1 - beta2)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        return momentum


def lion(model: nn.Module, settings: TrainRecipe) -> Lion:
    """Settings as for AdamW; the learning rate is scaled down and the decay up."""
    groups = [group | {"lr_scale": _LR_SCALE} for group in decay_groups(model, settings.weight_decay / _LR_SCALE)]
    return Lion(groups, lr=0.0, betas=(settings.beta1, settings.beta2))
