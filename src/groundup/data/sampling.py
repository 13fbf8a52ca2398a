"""Fair samples of a store without reading the whole of it."""

import bz2
from collections.abc import Iterator

import numpy as np

from groundup.data.holdout import Pieces
from groundup.data.permutation import permuted
from groundup.data.store import DocumentStore

_CELL_BYTES = 32 << 10
_BZ2_BLOCK_BYTES = 900_000  # what bzip2 -9 sorts at once: more text would not compress better


def sample(store: DocumentStore, num_bytes: int, seed: int, excluded: Pieces | None = None) -> Iterator[bytes]:
    """Yield seeded random text of `num_bytes` in all, and up to 64 KiB more; the whole store if it has less.

    The text is seen as cells of 32 KiB, visited in pseudo-random order without repetition. A document of at
    most 32 KiB comes whole with the cell where it begins; of a longer one comes the slice in the cell, cut at
    line breaks (at most 48 KiB). Every byte of the store belongs to exactly one cell. What lies in `excluded`,
    such as the held-out pieces, is left out.
    """
    excluded = np.empty((0, 2), np.int64) if excluded is None else excluded
    cells = -(-store.total_bytes // _CELL_BYTES)
    left = num_bytes
    for position in range(cells):
        cell = int(permuted(np.array([position]), cells, (seed,))[0])
        for whole in _cell(store, cell):
            for start, end in _outside(whole, excluded):
                if left <= 0:
                    return
                left -= end - start
                yield store.read(start, end)


def _cell(store: DocumentStore, cell: int) -> Iterator[tuple[int, int]]:
    """The ranges of documents, or of slices of long ones, that belong to a cell."""
    first, last = cell * _CELL_BYTES, min((cell + 1) * _CELL_BYTES, store.total_bytes)
    document = int(np.searchsorted(store.offsets, first, side="right")) - 1
    while document < len(store) and (start := int(store.offsets[document])) < last:
        end = int(store.offsets[document + 1])
        document += 1
        if end - start > _CELL_BYTES:
            low = start if start >= first else store.cut(first, _CELL_BYTES // 2, start)
            high = end if end <= last else store.cut(last, _CELL_BYTES // 2, start)
            if low < high:
                yield low, high
        elif start >= first:
            yield start, end


def _outside(whole: tuple[int, int], excluded: Pieces) -> Iterator[tuple[int, int]]:
    """What is left of a range without the excluded ones, which are in order."""
    start, end = whole
    overlapping = slice(
        int(np.searchsorted(excluded[:, 1], start, side="right")), int(np.searchsorted(excluded[:, 0], end))
    )
    for first, last in excluded[overlapping].tolist():
        if start < first:
            yield start, first
        start = last
    if start < end:
        yield start, end


def compressibility(store: DocumentStore, seed: int) -> float:
    """Bits per byte of bzip2 -9 on a sample of up to 900 kB: a cheap measure of how hard the text is.

    Measured: English books 2.33, wiki-en 2.25, Python source 1.74. A good language model ends well below it.
    """
    text = b"".join(sample(store, _BZ2_BLOCK_BYTES, seed))[:_BZ2_BLOCK_BYTES]
    return 8 * len(bz2.compress(text, 9)) / len(text)
