"""Fair samples of a store without reading the whole of it."""

import bz2
from collections.abc import Iterator

import numpy as np

from groundup.data.permutation import permuted
from groundup.data.store import DocumentStore

_CELL_BYTES = 32 << 10
_BZ2_BLOCK_BYTES = 900_000  # what bzip2 -9 sorts at once: more text would not compress better


def sample(store: DocumentStore, num_bytes: int, seed: int) -> Iterator[bytes]:
    """Yield seeded random text of `num_bytes` in all, and up to 64 KiB more; the whole store if it has less.

    The text is seen as cells of 32 KiB, visited in pseudo-random order without repetition. A document of at
    most 32 KiB comes whole with the cell where it begins; of a longer one comes the slice in the cell, cut at
    line breaks (at most 48 KiB). Every byte of the store belongs to exactly one cell.
    """
    cells = -(-store.total_bytes // _CELL_BYTES)
    left = num_bytes
    for position in range(cells):
        for piece in _cell(store, int(permuted(np.array([position]), cells, (seed,))[0])):
            if left <= 0:
                return
            left -= len(piece)
            yield piece


def _cell(store: DocumentStore, cell: int) -> Iterator[bytes]:
    first, last = cell * _CELL_BYTES, min((cell + 1) * _CELL_BYTES, store.total_bytes)
    document = int(np.searchsorted(store.offsets, first, side="right")) - 1
    while document < len(store) and (start := int(store.offsets[document])) < last:
        end = int(store.offsets[document + 1])
        document += 1
        if end - start > _CELL_BYTES:
            low = start if start >= first else store.cut(first, _CELL_BYTES // 2, start)
            high = end if end <= last else store.cut(last, _CELL_BYTES // 2, start)
            if low < high:
                yield store.read(low, high)
        elif start >= first:
            yield store.read(start, end)


def compressibility(store: DocumentStore, seed: int) -> float:
    """Bits per byte of bzip2 -9 on a sample of up to 900 kB: a cheap measure of how hard the text is.

    Measured: English books 2.33, wiki-en 2.25, Python source 1.74. A good language model ends well below it.
    """
    text = b"".join(sample(store, _BZ2_BLOCK_BYTES, seed))[:_BZ2_BLOCK_BYTES]
    return 8 * len(bz2.compress(text, 9)) / len(text)
