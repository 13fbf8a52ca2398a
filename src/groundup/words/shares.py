"""A text shared out among threads that learn from it at the same time.

The threads write to the same weights without locks: Hogwild (Recht, Re, Wright and Niu 2011). With one thread the
outcome is the same each time; with more it is not, as the order of the writes is not.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from groundup.seeds import derive


@dataclass
class Share:
    """A thread's part of the text, how far it has come, and its random numbers (uint64 (1,))."""

    begin: int
    end: int
    position: int
    epoch: int
    random: NDArray[np.uint64]


@dataclass
class Tally:
    """What all threads have done together, and the loss of late: of about the last thirty reports."""

    done: int = 0
    loss: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, done: int, loss: float, measured: int) -> None:
        """So many words or records more, with this loss summed over so many measurements."""
        with self._lock:
            self.done += done
            if measured:
                recent = loss / measured
                self.loss = recent if self.loss is None else self.loss + 0.03 * (recent - self.loss)


def share_out(size: int, threads: int, seed: int) -> list[Share]:
    """Equal shares of a text of `size` places, each with random numbers of its own."""
    borders = [size * number // threads for number in range(threads + 1)]
    return [
        Share(begin, end, begin, 0, np.array([derive(seed, f"words, thread {number}")], np.uint64))
        for number, (begin, end) in enumerate(pairwise(borders))
    ]


def work_through(
    shares: list[Share], epochs: int, advance: Callable[[Share], None], should_stop: Callable[[], bool]
) -> None:
    """Let each thread go through its share `epochs` times; `advance` moves a share's position by a piece.

    Returns early, between pieces, where `should_stop` says so; the first error of a thread stops all.
    """
    failed = threading.Event()

    def work(share: Share) -> None:
        try:
            while share.epoch < epochs and not failed.is_set() and not should_stop():
                if share.position < share.end:
                    advance(share)
                if share.position >= share.end:
                    share.position, share.epoch = share.begin, share.epoch + 1
        except BaseException:
            failed.set()
            raise

    if len(shares) == 1:
        work(shares[0])
        return
    with ThreadPoolExecutor(len(shares)) as pool:
        for finished in [pool.submit(work, share) for share in shares]:
            finished.result()


def is_finished(shares: list[Share], epochs: int) -> bool:
    """Whether every share has been gone through `epochs` times."""
    return all(share.epoch >= epochs for share in shares)


def pack(shares: list[Share]) -> dict[str, NDArray[np.uint64]]:
    """The shares as arrays that a file can hold."""
    rows = [[share.begin, share.end, share.position, share.epoch, int(share.random[0])] for share in shares]
    return {"shares": np.array(rows, np.uint64)}


def unpack(rows: NDArray[np.uint64]) -> list[Share]:
    """The inverse of `pack`."""
    return [Share(int(row[0]), int(row[1]), int(row[2]), int(row[3]), row[4:5].copy()) for row in rows]
