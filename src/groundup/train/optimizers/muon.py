"""Muon: momentum, orthogonalised, for the matrices inside the model; AdamW trains the rest.

Jordan et al. 2024, kellerjordan.github.io/posts/muon. Steps are scaled so that their root mean square is that of
AdamW's (Liu et al. 2025, arXiv:2502.16982), and one learning rate and one decay serve both.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from groundup.recipe import TrainRecipe
from groundup.train.optimizers.groups import hidden_matrices

_MOMENTUM = 0.95
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # steepest at zero, at the price of singular values only near 1
_STEPS = 5
_RMS_OF_ADAMW = 0.2


class Muon(Optimizer):
    """Momentum of 4 bytes a parameter for the group with `orthogonal`, AdamW's 8 bytes for the others."""

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]):
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0, "orthogonal": False})
        rest = [group for group in self.param_groups if not group["orthogonal"]]
        self._adamw = AdamW([{"params": group["params"]} for group in rest], lr=0.0, betas=betas, fused=True)
        self._adamw.state = self.state  # one state, so that a checkpoint of this optimizer has all of it

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step from the gradients that are there; `closure` is not supported."""
        assert closure is None
        rest = iter(self._adamw.param_groups)
        for group in self.param_groups:
            if group["orthogonal"]:
                self._step_matrices(group)
            else:
                next(rest).update({key: group[key] for key in ("lr", "weight_decay", "betas")})
        self._adamw.step()

    def _step_matrices(self, group: dict[str, Any]) -> None:
        by_shape: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                by_shape[parameter.shape].append(parameter)
        for shape, parameters in by_shape.items():
            directions = orthogonalise(torch.stack([self._direction(parameter) for parameter in parameters]))
            lr = group["lr"] * _RMS_OF_ADAMW * math.sqrt(max(shape))
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, list(directions.unbind()), alpha=-lr)

    def _direction(self, parameter: Tensor) -> Tensor:
        """The gradient with Nesterov's momentum."""
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        assert parameter.grad is not None
        state["momentum"].lerp_(parameter.grad, 1 - _MOMENTUM)
        return parameter.grad.lerp(state["momentum"], _MOMENTUM)


def orthogonalise(matrices_NRC: Tensor) -> Tensor:
    """The nearest matrices whose singular values are all about 1 (N, R, C), in bfloat16.

    Newton-Schulz iteration of degree 5, on all matrices of one shape at once, along their shorter side.
    """
    tall = matrices_NRC.shape[1] > matrices_NRC.shape[2]
    x = matrices_NRC.bfloat16()
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices_NRC.dtype)


def muon(model: nn.Module, settings: TrainRecipe) -> Muon:
    """Muon for hidden matrices, AdamW for embeddings, norms and biases."""
    hidden = hidden_matrices(model)
    known = set(map(id, hidden))
    rest = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups: list[dict[str, Any]] = [
        {"params": hidden, "weight_decay": settings.weight_decay, "orthogonal": True},
        {"params": [p for p in rest if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0},
    ]
    return Muon([group for group in groups if group["params"]], 0.0, (settings.beta1, settings.beta2))
