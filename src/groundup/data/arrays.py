"""One-dimensional .npy files that are longer than memory."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

_BUFFER_BYTES = 1 << 20


class ArrayWriter:
    """Append to a one-dimensional .npy file in constant memory; its header is completed on closing.

    Numpy pads headers so that they can grow in place (`numpy.lib.format`), which is what this relies on.
    """

    def __init__(self, path: Path, dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self.length = 0
        self._file = path.open("wb", buffering=_BUFFER_BYTES)
        self._write_header()
        self._header_bytes = self._file.tell()

    def append(self, values: Sequence[int] | NDArray[Any]) -> None:
        """Write `values` behind what is there."""
        array = np.asarray(values, dtype=self.dtype)
        self._file.write(array.data)
        self.length += array.size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            self._file.seek(0)
            self._write_header()
            assert self._file.tell() == self._header_bytes

    def _write_header(self) -> None:
        description = np.lib.format.dtype_to_descr(self.dtype)
        header = {"descr": description, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self._file, header)
