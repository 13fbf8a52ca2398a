"""Files of tensors, written so that a full disk is told as any other error of the user's machine."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from groundup.errors import UserError


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file; UserError where the disk is full, or the like."""
    try:
        save_file(dict(tensors), path, None if metadata is None else dict(metadata))
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"could not write {path}: {reason}; make room, then do the same again") from None
