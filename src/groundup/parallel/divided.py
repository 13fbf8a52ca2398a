"""Tensors of which each process has a part (PyTorch's DTensor), for code that must see them whole.

Plain tensors go through unchanged, without the half second that it takes to import DTensor.
"""

import torch
from torch import Tensor, nn


def is_divided(tensor: Tensor) -> bool:
    """Whether other processes have parts of it, or copies that are known to be such."""
    if type(tensor) in {Tensor, nn.Parameter}:
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """All of it, in every process; they must all ask."""
    return tensor.full_tensor() if is_divided(tensor) else tensor  # type: ignore[attr-defined]


def local(tensor: Tensor) -> Tensor:
    """What of it is in the memory of this process."""
    return tensor.to_local() if is_divided(tensor) else tensor  # type: ignore[attr-defined]


def own_part(drawn: Tensor, like: Tensor) -> Tensor:
    """The part of a whole tensor that this process has of `like`, a view."""
    if not is_divided(like):
        return drawn
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    shape, offset = compute_local_shape_and_global_offset(like.shape, like.device_mesh, like.placements)  # type: ignore[attr-defined]
    return drawn[tuple(slice(start, start + size) for start, size in zip(offset, shape, strict=True))]


@torch.no_grad()
def place_own_part(parameter: Tensor, drawn: Tensor) -> None:
    """Put the part of `drawn` that belongs here into a parameter."""
    part = local(parameter)
    if part.numel():
        part.copy_(own_part(drawn, parameter))
