"""The state of an optimizer by the names of its parameters: `embedding.weight/exp_avg`, ..."""

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from groundup.train.stored_tensors import Stored


def moments_of(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """All tensors of its state; before the first step there are none."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def room_for_moments(model: nn.Module, stored: dict[str, Stored]) -> dict[str, Tensor]:
    """Tensors to load stored ones into, for the parameters that this process has.

    Those as large as their parameter are divided like it; others are whole everywhere, as optimizers make them.
    """
    parameters = dict(model.named_parameters())
    return {
        full_name: parameters[name].detach().new_zeros(shape, dtype=dtype)
        if shape
        else torch.zeros((), dtype=dtype)
        for full_name, (shape, dtype) in stored.items()
        if (name := _parameter(full_name)) in parameters
    }


def set_moments(model: nn.Module, optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Take what was saved, instead of copying it; what belongs to no parameter of the model is a KeyError."""
    parameters = dict(model.named_parameters())
    for full_name, value in tensors.items():
        parameter = parameters[_parameter(full_name)]
        # The count of steps too lies beside the parameter: AdamW, which is fused, reads it there.
        own = value if value.dim() else value.clone()
        optimizer.state[parameter][full_name.rpartition("/")[2]] = own.to(parameter.device)


def require_moments(model: nn.Module, names: Collection[str]) -> None:
    """RuntimeError where a state of these names, if it is one after a step, lacks a parameter that is trained."""
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    missing = trained - set(map(_parameter, names))
    if names and missing:
        raise RuntimeError(f"the optimizer's state of {min(missing)} is missing")


def _parameter(full_name: str) -> str:
    return full_name.rpartition("/")[0]
