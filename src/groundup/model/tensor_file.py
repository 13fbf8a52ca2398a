"""Files of tensors, written so that a full disk is told as any other error of the user's machine."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from groundup.files import tensors_to


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file; UserError where the disk is full, or the like."""
    with tensors_to(path):
        save_file(dict(tensors), path, None if metadata is None else dict(metadata))
