"""What a Hugging Face folder says about its model, read without loading the weights (and without torch)."""

import json
import re
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from groundup.errors import UserError
from groundup.interop.formats import shape_from
from groundup.plan.stored import StoredTensor
from groundup.shape import Shape


def read_shape(folder: Path, shape_of: Callable[[dict[str, Any]], Shape] = shape_from) -> Shape:
    """What `shape_of` finds in the folder's `config.json`; UserError where that is damaged."""
    file = folder / "config.json"
    try:
        return shape_of(json.loads(file.read_text("utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise UserError(f"{file} is damaged or incomplete ({reason}); export the model again") from None


def weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or the parts that its index names."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [folder / "model.safetensors"]
    try:
        names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        return [folder / name for name in sorted(names)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"cannot read {index}: {error}; export the model again") from None


def stored_tensors(folder: Path) -> list[StoredTensor]:
    """The tensors of a folder's weights, from the headers of its files; empty where it has no such files."""
    files = weight_files(folder)
    if not any(file.is_file() for file in files):
        return []
    return [tensor for file in files for tensor in _header(file)]


def _header(file: Path) -> list[StoredTensor]:
    try:
        with safe_open(file, framework="numpy") as weights:
            slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118
            return [_stored(name, part.get_shape(), part.get_dtype()) for name, part in slices.items()]
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {file}: {error}; export the model again") from None


def _stored(name: str, dimensions: list[int], dtype: str) -> StoredTensor:
    bits = re.search(r"\d+", dtype)  # BF16, F8_E4M3; a BOOL takes a byte
    return StoredTensor(name, tuple(dimensions), dtype, prod(dimensions) * (int(bits[0]) if bits else 8) // 8)
