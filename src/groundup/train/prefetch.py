"""Windows read ahead, on a thread of its own, while the steps run."""

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
    """The same windows as `source` gives, read ahead in stretches of `stretch` windows.

    What is asked for is cut from the stretch that it lies in, while the one behind is being read: a pure function
    of the question, whatever is asked and in which order. To wake a thread at each step costs more than it saves:
    beside other programs on the same cores a run lost 5 % of its time so, and 0.5 % in this way. An error on the
    thread comes out where its stretch is asked for. Leaving the context ends the thread.
    """

    def __init__(self, source: BatchSource, stretch: int):
        self._source, self._size = source, stretch
        self._thread = ThreadPoolExecutor(1, "prefetch")
        self._stretches: dict[int, Future[Windows]] = {}

    def windows(self, first: int, count: int) -> Windows:
        """As `BatchSource.windows`; the array may share its memory with others, and is not to be written."""
        numbers = range(first // self._size, (first + count - 1) // self._size + 1)
        wanted = [*numbers, numbers[-1] + 1]
        self._stretches = {number: self._stretches.get(number) or self._read(number) for number in wanted}
        stretches = [self._stretches[number].result() for number in numbers]
        whole = stretches[0] if len(stretches) == 1 else np.concatenate(stretches)
        start = first - numbers[0] * self._size
        return whole[start : start + count]

    def _read(self, number: int) -> Future[Windows]:
        return self._thread.submit(self._source.windows, number * self._size, self._size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)
