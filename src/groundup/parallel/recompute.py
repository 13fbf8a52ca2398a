"""Recomputation: keep less of the forward pass, and compute it again when the backward pass asks for it."""

from typing import Literal

from torch import nn

Recompute = Literal["none", "selective", "full"]


def recompute(model: nn.Module, what: Recompute) -> nn.Module:
    """Wrap the blocks of `model` in place and return it."""
    assert what == "none", "being written"
    return model
