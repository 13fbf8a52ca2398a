"""Muon: momentum, orthogonalised, for the matrices inside the model; AdamW trains the rest.

Jordan et al. 2024, kellerjordan.github.io/posts/muon. Steps are scaled so that their root mean square is that of
AdamW's (Liu et al. 2025, arXiv:2502.16982), and one learning rate and one decay serve both.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from groundup.parallel.divided import is_divided, local, own_part, whole
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
        parameters: list[Tensor] = [parameter for parameter in group["params"] if parameter.grad is not None]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not parameters:
            return
        momenta = [self._momentum(parameter) for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - _MOMENTUM)
        directions = torch._foreach_lerp(gradients, momenta, _MOMENTUM)  # Nesterov's
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        if any(map(is_divided, parameters)):
            self._step_divided(group, parameters, directions)
            return
        by_shape: defaultdict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter, direction in zip(_matrices(parameters), _matrices(directions), strict=True):
            wide = _wide(parameter)
            by_shape[wide.shape[0], wide.shape[1]].append((wide, _wide(direction)))
        for (_, long_side), pairs in by_shape.items():
            weights, given = zip(*pairs, strict=True)
            orthogonal = orthogonalise(torch.stack(given))
            torch._foreach_add_(list(weights), list(orthogonal.unbind()), alpha=-_step_size(group, long_side))

    def _step_divided(
        self, group: dict[str, Any], parameters: Sequence[Tensor], directions: Sequence[Tensor]
    ) -> None:
        """Of matrices divided over processes, each orthogonalises all and keeps its own part."""
        for parameter, direction in zip(parameters, directions, strict=True):
            wide_NRC = torch.stack([_wide(matrix) for matrix in _matrices([whole(direction)])])
            orthogonal = orthogonalise(wide_NRC)
            if orthogonal.shape[-2:] != direction.shape[-2:]:
                orthogonal = orthogonal.mT
            update = orthogonal.reshape(direction.shape)
            local(parameter).add_(own_part(update, parameter), alpha=-_step_size(group, wide_NRC.shape[-1]))

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        return momentum


def _step_size(group: dict[str, Any], long_side: int) -> float:
    """Of which an orthogonal matrix makes a step that is as long as AdamW's."""
    return float(group["lr"] * _RMS_OF_ADAMW * math.sqrt(long_side))


def _matrices(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """Each matrix, and each of a stack of them, as a view."""
    for tensor in tensors:
        yield from tensor.unbind() if tensor.dim() == 3 else (tensor,)


def _wide(matrix: Tensor) -> Tensor:
    """The matrix with its shorter side first, a view: a map and one the other way round take one product."""
    return matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix


def orthogonalise(matrices_NRC: Tensor) -> Tensor:
    """The nearest matrices whose singular values are all about 1 (N, R, C), R <= C, in bfloat16.

    Newton-Schulz iteration of degree 5, on all matrices of one shape at once, along their shorter side.
    """
    x = matrices_NRC.bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.to(matrices_NRC.dtype)


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
