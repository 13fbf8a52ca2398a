"""Batches: batch number s of rank r as a pure function of (seed, s, r) over token shards."""

import numpy as np
from numpy.typing import NDArray

from groundup.data.permutation import Indices, permuted
from groundup.data.shards import Shards
from groundup.errors import UserError


class Batches:
    """Windows of the token stream, each once an epoch, in an order that is another permutation every epoch.

    Window w is the tokens [w * context, (w + 1) * context], both ends included: `context` inputs and, one
    further on, as many targets. The last window's last token is the next one's first, so that every token but
    the stream's first is a target once an epoch; the at most `context` - 1 tokens behind the last window are
    left out. The order takes no memory (see `permutation`), and there is no state: resuming is asking for the
    next step.

    Args:
        shards: the tokens.
        seed: chooses the orders; not negative.
        context: T, tokens that the model reads at once.
        batch_size: B, windows of one rank in one step.

    Raises UserError if there are too few tokens for one window.
    """

    def __init__(self, shards: Shards, seed: int, context: int, batch_size: int) -> None:
        self.num_windows = (shards.num_tokens - 1) // context
        if self.num_windows < 1:
            raise UserError(
                f"{shards.num_tokens} tokens are too few for one window of {context} + 1; "
                "add text or choose a shorter context"
            )
        self._shards = shards
        self._seed = seed
        self._context = context
        self._batch_size = batch_size

    def windows(self, step: int, rank: int = 0, num_ranks: int = 1) -> NDArray[np.int64]:
        """The windows of a rank in a step, int64 (B, T + 1).

        All ranks together take the next B * num_ranks windows of one endless order; rank r takes the r-th B
        of them. That order does not depend on the number of ranks.
        """
        first = (step * num_ranks + rank) * self._batch_size
        batch = np.empty((self._batch_size, self._context + 1), np.int64)
        for row, window in enumerate(self._order(np.arange(first, first + self._batch_size))):
            batch[row] = self._shards.read(int(window) * self._context, self._context + 1)
        return batch

    def epoch(self, step: int, num_ranks: int = 1) -> float:
        """How many times the data has been read when `step` begins: 0.5 is half way through it."""
        return step * num_ranks * self._batch_size / self.num_windows

    def _order(self, positions: Indices) -> Indices:
        """The windows at `positions` of the endless order."""
        epochs, within = np.divmod(positions, self.num_windows)
        windows = np.empty_like(positions)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            windows[here] = permuted(within[here], self.num_windows, (self._seed, int(epoch)))
        return windows
