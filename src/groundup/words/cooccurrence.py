"""How often words stand near each other, counted in bounded memory: sorted runs on disk, merged, then shuffled."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PAIR = np.dtype([("key", "<i8"), ("count", "<f8")])
"""A pair of words, lesser id first: key = lesser * V + greater."""
RECORD = np.dtype([("row", "<i4"), ("column", "<i4"), ("count", "<f8")])
"""As the published programs have it, but that their ids begin at 1."""

_BYTES_PER_PAIR = 96
"""What a pair takes while it is counted: key, weight, their order and sorted copies."""
_BYTES_PER_RECORD = 56

Pairs = NDArray[np.void]


def count_cooccurrences(
    ids: NDArray[np.int32], num_words: int, window: int, folder: Path, memory: int = 1 << 29,
    on_places: Callable[[int], None] = lambda _: None,
) -> Path:  # fmt: skip
    """Add up 1 / distance for all pairs of words at most `window` apart; a file of PAIR in `folder`, sorted.

    Both orders of a pair count as one, a word beside itself twice, as in cooccur.c's symmetric counting. -1 in
    `ids` ends a document. `memory` (bytes) bounds what is held at a time; `on_places` is told of places counted.
    """
    places = max(memory // (_BYTES_PER_PAIR * window), 1)
    runs = []
    for number, begin in enumerate(range(0, len(ids), places)):
        run = folder / f"run-{number}"
        _count(ids[max(begin - window, 0) : begin + places], min(begin, window), num_words, window).tofile(run)
        runs.append(run)
        on_places(min(places, len(ids) - begin))
    merged = folder / "pairs"
    with merged.open("wb") as file:
        for pairs in merge(runs, memory // 2):
            pairs.tofile(file)
    for run in runs:
        run.unlink()
    return merged


def _count(ids: NDArray[np.int32], before: int, num_words: int, window: int) -> Pairs:
    """The sums over pairs whose second word is at place `before` or later."""
    document = np.cumsum(ids < 0)
    keys, weights = [np.empty(0, np.int64)], [np.empty(0)]
    for distance in range(1, min(window, len(ids) - 1) + 1):
        first = max(before - distance, 0)
        left, right = ids[first:-distance], ids[first + distance :]
        near = (left >= 0) & (right >= 0) & (document[first:-distance] == document[first + distance :])
        left, right = left[near].astype(np.int64), right[near].astype(np.int64)
        keys.append(np.minimum(left, right) * num_words + np.maximum(left, right))
        weights.append(np.where(left == right, 2 / distance, 1 / distance))
    return _summed(np.concatenate(keys), np.concatenate(weights))


def _summed(keys: NDArray[np.int64], weights: NDArray[np.float64]) -> Pairs:
    """One entry for each key, ascending, with the sum of its weights."""
    order = np.argsort(keys)
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    pairs = np.empty(len(starts), PAIR)
    pairs["key"] = keys[starts]
    pairs["count"] = np.add.reduceat(weights[order], starts) if len(starts) else 0
    return pairs


def merge(runs: list[Path], memory: int) -> Iterator[Pairs]:
    """Merge sorted files of PAIR, adding up equal keys, with about `memory` bytes of them held at a time."""
    block = max(memory // (_BYTES_PER_PAIR * max(len(runs), 1)), 1)
    files = [np.memmap(run, PAIR, "r") for run in runs if run.stat().st_size]
    places = [0] * len(files)
    while unread := [(file, place) for file, place in zip(files, places, strict=True) if place < len(file)]:
        # Of no file more is taken than up to the least of the blocks' last keys: all smaller keys are in sight.
        bound = min(file["key"][min(place + block, len(file)) - 1] for file, place in unread)
        taken = []
        for number, file in enumerate(files):
            sight = file[places[number] : places[number] + block]
            size = int(np.searchsorted(sight["key"], bound, "right"))
            taken.append(np.array(sight[:size]))
            places[number] += size
        joined = np.concatenate(taken)
        yield _summed(joined["key"], joined["count"])


def shuffle(pairs: Path, num_words: int, folder: Path, seed: int, memory: int = 1 << 29) -> Path:
    """Write both orders of every pair as RECORD, shuffled; the file, in `folder`.

    Records are thrown into buckets at random and each bucket, small enough for `memory`, is then shuffled: every
    order is as likely as any other (Rao 1961).
    """
    generator = np.random.default_rng(seed)
    num_buckets = -(-2 * (pairs.stat().st_size // PAIR.itemsize) * _BYTES_PER_RECORD // memory) or 1
    buckets = [folder / f"bucket-{number}" for number in range(num_buckets)]
    for records in _records(pairs, num_words, max(memory // (4 * _BYTES_PER_PAIR), 1)):
        chosen = generator.integers(0, num_buckets, len(records))
        for number, bucket in enumerate(buckets):
            with bucket.open("ab") as file:
                records[chosen == number].tofile(file)
    shuffled = folder / "records"
    with shuffled.open("wb") as file:
        for bucket in buckets:
            generator.permutation(np.fromfile(bucket, RECORD)).tofile(file)
            bucket.unlink()
    return shuffled


def _records(path: Path, num_words: int, block: int) -> Iterator[NDArray[np.void]]:
    size = path.stat().st_size // PAIR.itemsize
    for begin in range(0, size, block):
        pairs = np.fromfile(path, PAIR, block, offset=begin * PAIR.itemsize)
        row, column = np.divmod(pairs["key"], num_words)
        mirrored = row != column
        records = np.empty(len(pairs) + int(mirrored.sum()), RECORD)
        records["row"] = np.concatenate([row, column[mirrored]])
        records["column"] = np.concatenate([column, row[mirrored]])
        records["count"] = np.concatenate([pairs["count"], pairs["count"][mirrored]])
        yield records
