"""Encoding one piece: merge its bytes by rank, and remember the answer."""

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

from groundup.tokenizer.definition import Definition
from groundup.tokenizer.pretokenize import as_bytes

_SHIFT = 32
_LOW = (1 << _SHIFT) - 1
_NEVER = 1 << 62  # the rank of a pair that does not merge
_REMEMBERED_CHARACTERS = 64
_REMEMBERED_PIECES = 1 << 17  # about 20 MB of English words


class PieceEncoder(dict[str, tuple[int, ...]]):
    """A mapping from pieces to their ids: `encoder[piece]` looks up or works out, in bounded memory.

    A dictionary with `__missing__`, because a hit must cost no Python call: text is mostly words seen before.
    """

    def __init__(self, definition: Definition) -> None:
        super().__init__()
        ids = definition.ids
        self._byte_ids = [ids[bytes([byte])] for byte in range(256)]
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
