"""Batches computed ahead: the next one on a thread of its own, while the step of this one runs."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

Windows = npt.NDArray[np.int64]


class BatchSource(Protocol):
    """Where batches come from: stretches of one endless order of windows, as a pure function."""

    def windows(self, first: int, count: int) -> Windows:
        """Windows [first, first + count) of the order, int64 (count, T + 1)."""
        ...


class Prefetch:
    """The same batches as `source` gives, with the one that comes next, if all stays equal, already computed.

    Asked for another one, it computes that on the spot: what it gives is a pure function of the question. An error
    on the thread comes out where its batch is asked for. Leaving the context ends the thread.
    """

    def __init__(self, source: BatchSource):
        self._source = source
        self._thread = ThreadPoolExecutor(1, "prefetch")
        self._asked: tuple[int, int] | None = None
        self._ahead: Future[Windows] | None = None

    def windows(self, first: int, count: int) -> Windows:
        """As `BatchSource.windows`."""
        if self._ahead is not None and self._asked == (first, count):
            batch = self._ahead.result()
        else:
            batch = self._source.windows(first, count)
        self._asked = (first + count, count)
        self._ahead = self._thread.submit(self._source.windows, *self._asked)
        return batch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)
