"""Weights as the compiled part wants them: rows padded with zeros to whole groups of sixteen floats."""

import numpy as np
from numpy.typing import NDArray

_LANES = 16
_ALIGNMENT = 64  # bytes of a line of the processor's cache

Floats = NDArray[np.float32]


def stride_of(dimension: int) -> int:
    """Floats from one row to the next."""
    return -(-dimension // _LANES) * _LANES


def zeros(rows: int, dimension: int) -> Floats:
    """A padded matrix of zeros, (rows, stride), that begins on a border of the cache's lines."""
    size = rows * stride_of(dimension)
    room = np.zeros(size + _ALIGNMENT // 4, np.float32)
    skip = -room.ctypes.data % _ALIGNMENT // 4
    return room[skip : skip + size].reshape(rows, -1)


def uniform(rows: int, dimension: int, bound: float, generator: np.random.Generator) -> Floats:
    """A padded matrix whose first `dimension` columns are uniform in [-bound, bound)."""
    matrix = zeros(rows, dimension)
    matrix[:, :dimension] = generator.uniform(-bound, bound, (rows, dimension))
    return matrix
