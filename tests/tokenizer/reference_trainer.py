"""Byte-pair encoding learned in the plainest way: after each merge every pair of every word is counted anew.

Slow, but short enough to be seen right; the trainers of the package are tested against it.
"""

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

Pair = tuple[int, int]


def train(
    counts: Mapping[bytes, int], num_merges: int, ties: str = "hf", min_frequency: int = 0
) -> list[tuple[bytes, bytes]]:
    """The merges in order, at most `num_merges`.

    Args:
        counts: words and how often each occurs.
        num_merges: merges wanted.
        ties: which of the pairs with the highest count is merged. Ids are 0..255 for the bytes, then the merges in
            order. "raw": the smaller pair of ids, a byte's id being its value; "hf": the same, but visible Latin-1
            bytes come before the others; "cs336": the greater pair of byte strings.
        min_frequency: stop when no pair occurs so often.
    """
    order = sorted(range(256), key=_hidden) if ties == "hf" else list(range(256))
    tokens = [bytes([byte]) for byte in order]
    words = [([order.index(byte) for byte in word], count) for word, count in counts.items()]
    merges: list[Pair] = []
    while len(merges) < num_merges:
        totals: Counter[Pair] = Counter()
        for word, count in words:
            for pair in pairwise(word):
                totals[pair] += count
        best = max(totals.values(), default=0)
        if best < max(min_frequency, 1):
            break
        tied = [pair for pair, total in totals.items() if total == best]
        chosen = max(tied, key=lambda pair: (tokens[pair[0]], tokens[pair[1]])) if ties == "cs336" else min(tied)
        words = [(_merged(word, chosen, len(tokens)), count) for word, count in words]
        tokens.append(tokens[chosen[0]] + tokens[chosen[1]])
        merges.append(chosen)
    return [(tokens[left], tokens[right]) for left, right in merges]


def _hidden(byte: int) -> bool:
    """Whether the byte is no visible character of Latin-1, so that GPT-2's alphabet puts it at the end."""
    return byte <= ord(" ") or 0x7F <= byte <= 0xA0 or byte == 0xAD


def _merged(word: list[int], pair: Pair, new: int) -> list[int]:
    """The word with `new` wherever the pair stands, taken from left to right without overlap."""
    result: list[int] = []
    position = 0
    while position < len(word):
        stands = tuple(word[position : position + 2]) == pair
        result.append(new if stands else word[position])
        position += 2 if stands else 1
    return result
