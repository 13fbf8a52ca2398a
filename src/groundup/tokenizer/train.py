"""Learning merges: byte-pair encoding (Sennrich et al. 2016) over bytes (Radford et al. 2019).

Only distinct pieces are kept, each with its count. All their symbols stand in one row, a border between two
pieces; a merge touches only the places where its pair occurs, and a heap with lazily corrected counts gives
the next pair.
"""

from array import array
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, heapreplace

from groundup.tokenizer.alphabet import BYTES_IN_ORDER

_BORDER, _ABSORBED = -1, -2
_SHIFT = 32  # A pair of ids is one integer, left << 32 | right, whose order is that of the pair.
_RIGHT = (1 << _SHIFT) - 1
_REPORTS = 100


def train_merges(
    counts: Mapping[bytes, int],
    num_merges: int,
    progress: Callable[[float], None] | None = None,
    *,
    min_frequency: int = 0,
    ties: str = "hf",
) -> list[tuple[bytes, bytes]]:
    """The merges in order of rank, at most `num_merges`: fewer if every piece has become one token.

    Args:
        counts: pieces and how often each occurs.
        num_merges: merges wanted.
        progress: called with the fraction done, 0..1.
        min_frequency: pairs that occur less often are not merged.
        ties: which of the pairs with the highest count is merged next. "hf": the smaller pair of ids, which are
            0..255 in the order of GPT-2's alphabet and then the merges (Hugging Face's `BpeTrainer`); "raw": the
            same with bytes as their own ids (rustbpe, bpeasy); "cs336": the greater pair of bytes (Stanford's
            course CS336).
    """
    tokens = [bytes([byte]) for byte in byte_order(ties)]
    row = _Row(counts, byte_order(ties))
    merges: list[tuple[bytes, bytes]] = []

    def entry(count: int, pair: int) -> tuple[int, _Greater | int, int]:
        if ties == "cs336":
            return -count, _Greater((tokens[pair >> _SHIFT], tokens[pair & _RIGHT])), pair
        return -count, pair, pair

    heap = [entry(count, pair) for pair, count in row.pair_counts.items()]
    heapify(heap)
    while heap and len(merges) < num_merges:
        promised, _, pair = heap[0]
        count = row.pair_counts[pair]
        if count != -promised:
            # A pair's count only falls after its creation, so a stale entry never hides the best pair.
            if count:
                heapreplace(heap, entry(count, pair))
            else:
                heappop(heap)
                row.forget(pair)
            continue
        if count < min_frequency:
            break
        heappop(heap)
        left, right = tokens[pair >> _SHIFT], tokens[pair & _RIGHT]
        merges.append((left, right))
        # No earlier token has these bytes: where it could stand, its own merge would have made it already.
        tokens.append(left + right)
        for created in row.merge(pair, new=len(tokens) - 1):
            if count := row.pair_counts[created]:
                heappush(heap, entry(count, created))
        if progress and len(merges) * _REPORTS // num_merges > (len(merges) - 1) * _REPORTS // num_merges:
            progress(len(merges) / num_merges)
    if progress:
        progress(1.0)
    return merges


def byte_order(ties: str) -> bytes:
    """The byte of each of the ids 0..255 while merges are trained by this rule."""
    return BYTES_IN_ORDER if ties == "hf" else bytes(range(256))


@dataclass(frozen=True)
class _Greater:
    """Sorts the greater pair of bytes first."""

    pair: tuple[bytes, bytes]

    def __lt__(self, other: "_Greater") -> bool:
        return self.pair > other.pair


class _Row:
    """The symbols of all pieces in one row, as a doubly linked list over positions.

    `pair_counts` (pair -> count, weighted by the pieces' counts) is exact at all times; `_places` (pair ->
    positions of its left symbol, ascending) may name places where the pair has gone.
    """

    def __init__(self, counts: Mapping[bytes, int], byte_order: bytes) -> None:
        id_of_byte = bytes(map(byte_order.index, range(256)))
        self._symbols = array("i", [_BORDER])
        self._weights = array("q", [0])
        for piece, count in counts.items():
            if len(piece) > 1:
                self._symbols.extend(piece.translate(id_of_byte))
                self._symbols.append(_BORDER)
                self._weights.extend([count] * (len(piece) + 1))
        self._before = array("q", range(-1, len(self._symbols) - 1))
        self._after = array("q", range(1, len(self._symbols) + 1))
        self.pair_counts: defaultdict[int, int] = defaultdict(int)
        self._places: defaultdict[int, array[int]] = defaultdict(lambda: array("q"))
        left = _BORDER
        for place, (right, weight) in enumerate(zip(self._symbols, self._weights, strict=True), start=-1):
            if left >= 0 and right >= 0:
                pair = left << _SHIFT | right
                self.pair_counts[pair] += weight
                self._places[pair].append(place)
            left = right

    def forget(self, pair: int) -> None:
        """Free what is known of a pair that no longer occurs."""
        del self.pair_counts[pair], self._places[pair]

    def merge(self, pair: int, new: int) -> list[int]:
        """Put the symbol `new` wherever `pair` stands, from left to right; the pairs that this creates."""
        left, right = pair >> _SHIFT, pair & _RIGHT
        symbols, weights, before, after = self._symbols, self._weights, self._before, self._after
        pair_counts = self.pair_counts
        created: defaultdict[int, array[int]] = defaultdict(lambda: array("q"))
        for place in self._places[pair]:
            absorbed = after[place]
            if symbols[place] != left or symbols[absorbed] != right:
                continue
            weight, previous, following = weights[place], before[place], after[absorbed]
            symbols[place], symbols[absorbed] = new, _ABSORBED
            after[place], before[following] = following, place
            symbol = symbols[previous]
            if symbol >= 0:
                pair_counts[symbol << _SHIFT | left] -= weight
                symbol = symbol << _SHIFT | new
                pair_counts[symbol] += weight
                created[symbol].append(previous)
            symbol = symbols[following]
            if symbol >= 0:
                pair_counts[right << _SHIFT | symbol] -= weight
                symbol = new << _SHIFT | symbol
                pair_counts[symbol] += weight
                created[symbol].append(place)
        self._places.update(created)
        self.forget(pair)
        return list(created)
