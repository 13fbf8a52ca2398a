"""Windows with a second one from elsewhere beside them, for objectives that compare two texts."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from groundup.errors import UserError
from groundup.seeds import derive

# A window's partner is at most so many places behind it in the order, which is random itself: it is as random as
# any, and what the source has computed of the order for the window often serves for the partner too.
_FARTHEST = 255


class WindowSource(Protocol):
    """An endless order of windows, such as `Batches`."""

    def windows(self, first: int, count: int) -> NDArray[np.int64]:
        """Windows [first, first + count) of it, (count, T + 1)."""
        ...


class WithPartners:
    """The windows of `source`, each followed by another one of the same epoch.

    Args:
        source: in whose order each of `num_windows` windows comes once an epoch.
        num_windows: an epoch's.
        seed: chooses, with a window's number, its partner.

    Raises UserError if there is no other window.
    """

    def __init__(self, source: WindowSource, num_windows: int, seed: int) -> None:
        if num_windows < 2:
            raise UserError("pairs of texts need two windows or more; add text or choose a shorter context")
        self._source, self._num_windows, self._seed = source, num_windows, derive(seed, "partners")

    def windows(self, first: int, count: int) -> NDArray[np.int64]:
        """Windows [first, first + count) and their partners, int64 (count, 2 (T + 1))."""
        partners = [self._source.windows(self._partner(number), 1) for number in range(first, first + count)]
        return np.concatenate([self._source.windows(first, count), np.concatenate(partners)], axis=1)

    def _partner(self, number: int) -> int:
        epoch, place = divmod(number, self._num_windows)
        farthest = min(_FARTHEST, self._num_windows - 1)
        ahead = int(np.random.default_rng((self._seed, number)).integers(1, farthest + 1))
        return epoch * self._num_windows + (place + ahead) % self._num_windows
