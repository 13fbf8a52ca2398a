"""Compilation by TorchInductor, block by block: its fused loops replace what is not a matrix product.

A model's blocks are equal, so one of them is compiled and serves all; compiled code stays in the cache on disk.
"""

from contextlib import AbstractContextManager
from typing import cast

import torch
from torch import nn


def compile_blocks(model: nn.Module) -> nn.Module:
    """Compile the blocks of `model` in place and return it."""
    for block in getattr(model, "blocks", ()):
        block.compile(dynamic=False)
    return model


def eager() -> AbstractContextManager[None]:
    """A context in which compiled blocks run as they are written: for shapes other than the step's."""
    return cast(AbstractContextManager[None], torch.compiler.set_stance("force_eager"))
