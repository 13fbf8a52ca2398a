"""The held-out split: which bytes of a store are for validation, and which for training."""

import math

import numpy as np
from numpy.typing import NDArray

from groundup.data.permutation import permuted
from groundup.data.store import DocumentStore
from groundup.errors import UserError

Pieces = NDArray[np.int64]
"""(n, 2) int64: byte ranges [start, end) of a store's text, in order; each lies within one document."""

_SMALLEST_SECTION_BYTES = 16 << 10
_DRAWN = 4096  # units drawn at a time


def split(
    store: DocumentStore, fraction: float = 0.01, min_bytes: int = 65536, *, seed: int
) -> tuple[Pieces, Pieces]:
    """Divide a store into (train, held_out) pieces at random by document.

    max(fraction * total, min_bytes) bytes are held out, or up to about a quarter more. A document longer than
    max(16 KiB, a quarter of that) counts as sections of about that size, cut at line breaks (or between
    characters), so that a corpus of one long file has a held-out part too; neighbouring sections on the same
    side are one piece. Every byte is in exactly one piece. Memory: about 40 bytes a document.

    Raises UserError for a corpus of less than 2 * min_bytes.
    """
    total = store.total_bytes
    if not 0 <= fraction <= 0.5 or min_bytes < 1:
        raise UserError(f"cannot hold out a fraction of {fraction} and {min_bytes} bytes; at most 0.5, at least 1")
    if total < 2 * min_bytes:
        raise UserError(_too_small(total, min_bytes))
    target = max(math.ceil(fraction * total), min_bytes)
    # The last bound only matters where min_bytes is tiny; it leaves something for training.
    section_bytes = max(1, min(max(_SMALLEST_SECTION_BYTES, -(-target // 4)), total // 8))
    edges = np.union1d(store.offsets, np.array(_section_cuts(store, section_bytes), np.int64))
    begins_document = store.offsets[np.searchsorted(store.offsets, edges)] == edges
    held = _drawn(np.diff(edges), target, seed)
    if held.all():
        raise UserError(_too_small(total, min_bytes))
    return _pieces(edges, begins_document, ~held), _pieces(edges, begins_document, held)


def _too_small(total: int, min_bytes: int) -> str:
    return (
        f"the corpus has {total} bytes, too few to hold out {min_bytes} for validation; "
        "add text or --set data.holdout_bytes=N"
    )


def _section_cuts(store: DocumentStore, section_bytes: int) -> list[int]:
    """Where documents longer than a section are cut; there are at most total / section_bytes such places."""
    cuts = []
    for document in np.flatnonzero(np.diff(store.offsets) > section_bytes):
        start, end = int(store.offsets[document]), int(store.offsets[document + 1])
        for position in range(start + section_bytes, end, section_bytes):
            cuts.append(store.cut(position, section_bytes // 4, start))
    return cuts


def _drawn(sizes: NDArray[np.int64], target: int, seed: int) -> NDArray[np.bool_]:
    """A mask of units drawn at random, just enough of them for `target` bytes in all."""
    held = np.zeros(len(sizes), np.bool_)
    for first in range(0, len(sizes), _DRAWN):
        drawn = permuted(np.arange(first, min(first + _DRAWN, len(sizes))), len(sizes), (seed,))
        before = np.cumsum(sizes[drawn]) - sizes[drawn]
        held[drawn[before < target]] = True
        target -= int(sizes[drawn].sum())
        if target <= 0:
            break
    return held


def _pieces(edges: NDArray[np.int64], begins_document: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> Pieces:
    """Ranges of the chosen units, joined with their neighbours within a document.

    Unit i is [edges[i], edges[i + 1]); `begins_document` marks the edges (the last one among them) where a
    document begins or the text ends.
    """
    before = np.concatenate([[False], chosen[:-1]])
    after = np.concatenate([chosen[1:], [False]])
    starts = edges[:-1][chosen & (begins_document[:-1] | ~before)]
    ends = edges[1:][chosen & (begins_document[1:] | ~after)]
    return np.stack([starts, ends], axis=1)
