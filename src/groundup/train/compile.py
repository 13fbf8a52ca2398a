"""Compilation by TorchInductor, block by block: its fused loops replace what is not a matrix product.

A model's blocks are equal, so one of them is compiled and serves all; compiled code stays in groundup's cache,
where later processes find it.
"""

import os
import shutil
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import nn

from groundup.errors import UserError
from groundup.files import cache_folder
from groundup.model.experts import leave_to_python

_CPP_COMPILERS = ("g++", "clang++")


def why_not_compiled(device: str) -> str | None:
    """What is missing on this machine to compile for `device`, or None."""
    if device == "cpu":
        named = os.environ.get("CXX")
        found = any(map(shutil.which, (named,) if named else _CPP_COMPILERS))
        return None if found else "a C++ compiler (g++ or clang++)"
    return None if torch.utils._triton.has_triton() else "Triton"


def require_compiler(device: str) -> None:
    """UserError where nothing can be compiled for `device`."""
    if missing := why_not_compiled(device):
        raise UserError(
            f"train.compile=on needs {missing}, which is not here; install it, or use train.compile=off"
        )


def compile_blocks(model: nn.Module, device: str) -> nn.Module:
    """Compile the blocks of `model` in place and return it; UserError where there is no compiler."""
    compile_modules(getattr(model, "blocks", ()), device)
    return model


def compile_modules(modules: Iterable[nn.Module], device: str) -> None:
    """Compile each of `modules` in place, those that are equal once; UserError where there is no compiler."""
    require_compiler(device)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
    # A router notes in the forward pass whom it sent where; what is computed again shall not note it twice.
    torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint = True
    leave_to_python()
    for module in modules:
        module.compile(dynamic=False)


def run_as_written(model: nn.Module) -> None:
    """Take compilation off a model again."""
    for module in model.modules():
        module._compiled_call_impl = None


def compiler_errors() -> tuple[type[Exception], ...]:
    """What is raised where a block cannot be compiled."""
    return torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError


def eager() -> AbstractContextManager[None]:
    """A context in which compiled blocks run as they are written: for shapes other than the step's."""
    if "torch._dynamo" not in sys.modules:  # nothing was compiled, and importing it takes a second
        return nullcontext()
    return cast(AbstractContextManager[None], torch.compiler.set_stance("force_eager"))
