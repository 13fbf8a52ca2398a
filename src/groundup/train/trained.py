"""The part of a model that training moves, which alone is worth a checkpoint where the rest is frozen."""

from collections.abc import Mapping

from torch import Tensor, nn


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """The model's state without parameters that are frozen, in their own memory."""
    frozen = _frozen(model)
    return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}


def load_trained(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load what `trained_state` gave, in place; RuntimeError where a tensor is missing or does not fit."""
    found = model.load_state_dict(dict(tensors), strict=False)
    if missing := set(found.missing_keys) - _frozen(model):
        raise RuntimeError(f"{min(missing)} is missing")
    if found.unexpected_keys:
        raise RuntimeError(f"the model has no {min(found.unexpected_keys)}")


def _frozen(model: nn.Module) -> set[str]:
    """By every name: two parts of a model may share what neither of them learns."""
    parameters = model.named_parameters(remove_duplicate=False)
    return {name for name, parameter in parameters if not parameter.requires_grad}
