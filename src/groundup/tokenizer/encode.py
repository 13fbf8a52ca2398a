"""Text to ids: the plain way, which is what the C++ (`native/encode.inc`) does, and the choice between the two."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from heapq import heapify, heappop, heappush
from itertools import chain, pairwise, starmap
from operator import add
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from groundup.tokenizer import native
from groundup.tokenizer.definition import Definition
from groundup.tokenizer.pretokenize import PATTERNS, as_bytes, as_text, sure_cut
from groundup.tokenizer.splits import splitter_in_turn

Ids = NDArray[np.uint32]
_SHIFT = 32
_LOW = (1 << _SHIFT) - 1
_NEVER = 1 << 62  # the rank of a pair that does not merge
_REMEMBERED_CHARACTERS = 64
_REMEMBERED_PIECES = 1 << 17  # about 20 MB of English words
_MOST_BYTES = 1 << 31  # of a text that is encoded at once
_PARTS, _PART_BYTES = 4, 1 << 20  # parts a thread, of at least so much text


class Encoder(Protocol):
    """What encodes: both kinds give the same ids."""

    cuts: bool
    """Whether text may be cut at `sure_cut`, and the parts encoded by themselves."""

    def encode(self, text: bytes | memoryview, out: Ids) -> int:
        """Write the ids of `text` to `out`, uint32 with room for one id a byte; returns how many there are."""


def make_encoder(definition: Definition) -> Encoder:
    """The fastest encoder that there is for the definition."""
    if native.module is None or len(definition.ids) > native.MOST_TOKENS:
        return PlainEncoder(definition)
    return NativeEncoder(definition)


def encode_parts(encoder: Encoder, text: bytes, out: Ids, threads: int) -> int:
    """`encoder.encode` on several threads, which only the native encoder makes use of."""
    few = threads == 1 and len(text) < _MOST_BYTES
    if few or not encoder.cuts or len(text) <= _PART_BYTES:
        return encoder.encode(text, out)
    # A few parts a thread: so many that they end at about the same time, so few that starting them costs nothing.
    size = min(max(len(text) // (_PARTS * threads) + 1, _PART_BYTES), _MOST_BYTES)
    places = [0]
    while len(text) - places[-1] > size:
        place = _next_cut(text, places[-1], size)
        if place == places[-1]:
            break
        places.append(place)
    places.append(len(text))
    view, ids, count = memoryview(text), out.data, 0
    with ThreadPoolExecutor(threads) as pool:
        # Each part has room in `out` for an id a byte, so that none waits for those before it.
        counts = pool.map(lambda part: encoder.encode(view[slice(*part)], out[slice(*part)]), pairwise(places))
        for start, length in zip(places, counts, strict=False):
            if start != count:
                ids[count : count + length] = ids[start : start + length]
            count += length
    return count


def _next_cut(text: bytes, start: int, size: int) -> int:
    """The last place to cut within `size` bytes after `start`, or further on if a piece is longer; or `start`."""
    reach = size
    while (place := sure_cut(text, start, min(start + reach, len(text)))) == start and start + reach < len(text):
        reach *= 2
    return place


class NativeEncoder:
    """The C++; usable from many threads at once, each call taking a cache of its own."""

    def __init__(self, definition: Definition) -> None:
        ids = definition.ids
        tokens = [bytes([byte]) for byte in range(256)]
        if definition.vocabulary is None:
            tokens += list(ids)[256:]
        else:  # what the merges make comes in their order, which the C++ makes use of
            tokens += dict.fromkeys(chain(starmap(add, definition.merges), ids.keys() - set(tokens)))
        index = dict(zip(tokens, range(len(tokens)), strict=True)).__getitem__
        lefts, rights = zip(*definition.merges, strict=True) if definition.merges else ((), ())
        merges = np.empty((len(lefts), 3), np.uint32)
        for column, parts in enumerate((lefts, rights, map(add, lefts, rights))):
            merges[:, column] = list(map(index, parts))
        self._native: Any = native.module
        self._encoder = self._native.new_encoder(
            b"".join(tokens),
            np.cumsum([0, *map(len, tokens)], dtype=np.uint64),
            np.array([ids.get(token, 0) for token in tokens], np.uint32),  # no piece has a byte without an id
            merges,
            definition.whole_pieces,
        )
        self._pattern = native_pattern(definition.patterns)
        self._split = _splitter(definition)
        self._lacking = definition.lacking
        self.cuts = self._pattern is not None

    def encode(self, text: bytes | memoryview, out: Ids) -> int:
        """See `Encoder`."""
        native.check_size(text)
        if self._pattern is not None and not self._lacking:
            return self._native.encode(self._encoder, self._pattern, text, out)
        pieces = self._split(as_text(bytes(text)))
        if self._lacking:
            text = as_bytes("".join(pieces))
        return self._native.encode_given(self._encoder, text, piece_ends(pieces), out)


def _splitter(definition: Definition) -> Callable[[str], list[str]]:
    """A function that cuts a text into pieces, and leaves out of them the bytes that have no token."""
    split, lacking = splitter_in_turn(definition.patterns), definition.lacking

    def split_and_leave_out(text: str) -> list[str]:
        pieces, data = split(text), as_bytes(text)
        if len(data.translate(None, lacking)) == len(data):
            return pieces
        left = (as_text(as_bytes(piece).translate(None, lacking)) for piece in pieces)
        return [piece for piece in left if piece]

    return split_and_leave_out if lacking else split


def native_pattern(patterns: Sequence[str]) -> int | None:
    """The number of the pattern in the C++, None if it does not cut by it."""
    named = [number for number, name in enumerate(native.PATTERNS) if (PATTERNS[name],) == tuple(patterns)]
    return named[0] if named else None


def piece_ends(pieces: Sequence[str]) -> NDArray[np.uint32]:
    """Where each piece ends in the bytes of all, uint32."""
    return np.cumsum([len(as_bytes(piece)) for piece in pieces], dtype=np.uint32)


class PlainEncoder:
    """Plain Python; a lookup for pieces seen before."""

    def __init__(self, definition: Definition) -> None:
        self._pieces = PieceEncoder(definition)
        self._split = _splitter(definition)
        self.cuts = native_pattern(definition.patterns) is not None

    def encode(self, text: bytes | memoryview, out: Ids) -> int:
        """See `Encoder`."""
        ids = list(chain.from_iterable(map(self._pieces.__getitem__, self._split(as_text(bytes(text))))))
        out[: len(ids)] = ids
        return len(ids)


class PieceEncoder(dict[str, tuple[int, ...]]):
    """A mapping from pieces to their ids: `encoder[piece]` looks up or works out, in bounded memory.

    A dictionary with `__missing__`, because a hit must cost no Python call: text is mostly words seen before.
    """

    def __init__(self, definition: Definition) -> None:
        super().__init__()
        ids = definition.ids
        self._byte_ids = [ids.get(bytes([byte]), 0) for byte in range(256)]
        self._whole_pieces = ids if definition.whole_pieces else {}
        self._ranks = {
            ids[left] << _SHIFT | ids[right]: rank for rank, (left, right) in enumerate(definition.merges)
        }
        self._merged = [ids[left + right] for left, right in definition.merges]

    def __missing__(self, piece: str) -> tuple[int, ...]:
        ids = tuple(self._encode(as_bytes(piece)))
        if len(piece) <= _REMEMBERED_CHARACTERS:
            if len(self) >= _REMEMBERED_PIECES:
                self.clear()
            self[piece] = ids
        return ids

    def _encode(self, piece: bytes) -> list[int]:
        if (whole := self._whole_pieces.get(piece)) is not None:
            return [whole]
        return merge_symbols([self._byte_ids[byte] for byte in piece], self._ranks, self._merged)


def merge_symbols(symbols: list[int], ranks: Mapping[int, int], merged: Sequence[int]) -> list[int]:
    """Merge the pair of lowest rank, the leftmost among equals, until none is left; overwrites `symbols`.

    Args:
        symbols: ids of the piece's bytes.
        ranks: pair (left id << 32 | right id) -> rank.
        merged: rank -> id of the merged token.

    O(n log n) in the number of symbols: a linked list of them and a heap of (rank, place of the left symbol).
    """
    count = len(symbols)
    before, after = list(range(-1, count - 1)), list(range(1, count + 1))
    pair_ranks = [ranks.get(left << _SHIFT | right, _NEVER) for left, right in pairwise(symbols)]
    pair_ranks.append(_NEVER)
    heap = [rank << _SHIFT | place for place, rank in enumerate(pair_ranks) if rank != _NEVER]
    heapify(heap)
    while heap:
        entry = heappop(heap)
        rank, place = entry >> _SHIFT, entry & _LOW
        if pair_ranks[place] != rank:
            continue  # one of the two has been merged with another neighbour meanwhile
        absorbed = after[place]
        following = after[absorbed]
        symbols[place] = merged[rank]
        pair_ranks[absorbed] = _NEVER
        after[place] = following
        if following < count:
            before[following] = place
        for left, right in ((before[place], place), (place, following)):
            if left < 0:
                continue
            rank = _NEVER if right == count else ranks.get(symbols[left] << _SHIFT | symbols[right], _NEVER)
            pair_ranks[left] = rank
            if rank != _NEVER:
                heappush(heap, rank << _SHIFT | left)
    kept, place = [], 0
    while place < count:
        kept.append(symbols[place])
        place = after[place]
    return kept
