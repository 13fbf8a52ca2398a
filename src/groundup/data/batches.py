"""Batches: any stretch of one endless order of windows, as a pure function of the seed, over token shards."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from groundup.data.permutation import Indices, endless
from groundup.data.shards import Shards
from groundup.errors import UserError

# The order is computed for so many windows at once: for a few it takes nearly as long.
_BLOCK = 1024


class Batches:
    """Windows of the token stream, each once an epoch, in an order that is another permutation every epoch.

    Window w is the tokens [w * context, (w + 1) * context], both ends included: `context` inputs and, one
    further on, as many targets. The last window's last token is the next one's first, so that every token but
    the stream's first is a target once an epoch; the at most `context` - 1 tokens behind the last window are
    left out. The order takes no memory (see `permutation`), and there is no state: a batch is the stretch of the
    order behind the windows seen so far, whatever the sizes of the batches before it were, and resuming is
    asking for the next stretch. Ranks take stretches next to each other, so that the order of a step's windows
    does not depend on their number.

    Args:
        shards: the tokens.
        seed: chooses the orders; not negative.
        context: T, tokens that the model reads at once.

    Raises UserError if there are too few tokens for one window.
    """

    def __init__(self, shards: Shards, seed: int, context: int) -> None:
        self.num_windows = (shards.num_tokens - 1) // context
        if self.num_windows < 1:
            raise UserError(
                f"{shards.num_tokens} tokens are too few for one window of {context} + 1; "
                "add text or choose a shorter context"
            )
        self._shards = shards
        self._seed = seed
        self._context = context
        self._block = lru_cache(maxsize=2)(self._order_of_block)

    def windows(self, first: int, count: int) -> NDArray[np.int64]:
        """Windows [first, first + count) of the endless order, int64 (count, T + 1)."""
        blocks = range(first // _BLOCK, (first + count - 1) // _BLOCK + 1)
        order = np.concatenate([self._block(block) for block in blocks])[first - blocks[0] * _BLOCK :][:count]
        batch = np.empty((count, self._context + 1), np.int64)
        for row, window in enumerate(order.tolist()):
            batch[row] = self._shards.read(window * self._context, self._context + 1)
        return batch

    def epoch(self, windows: int) -> float:
        """How many times the data has been read after so many windows: 0.5 is half way through it."""
        return windows / self.num_windows

    def _order_of_block(self, block: int) -> Indices:
        """The windows at the positions of a block of the endless order."""
        positions = np.arange(block * _BLOCK, (block + 1) * _BLOCK)
        return endless(positions, self.num_windows, self._seed)
