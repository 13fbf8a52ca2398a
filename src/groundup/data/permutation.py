"""Pseudo-random permutations of 0..n-1 that need no memory: any entry is computed on its own.

A Feistel network permutes the numbers of an even number of bits, whatever its round function is (Luby and
Rackoff, 1988); numbers outside the range are sent through again until they fall inside, which keeps it a
permutation (cycle walking; Black and Rogaway, 2002). As the network's domain is less than four times n
(beyond the smallest n), this takes fewer than four passes on average.
"""

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 6
_SMALLEST_HALF_BITS = 4  # smaller halves would mix poorly

Indices = NDArray[np.int64]
_Words = NDArray[np.uint64]


def permuted(positions: Indices, length: int, key: tuple[int, ...]) -> Indices:
    """Entries `positions` (int64, each in [0, length)) of the permutation of range(length) chosen by `key`.

    Keys are tuples of non-negative integers such as (seed, epoch).
    """
    half_bits = max(((length - 1).bit_length() + 1) // 2, _SMALLEST_HALF_BITS)
    round_keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64).astype(np.uint64)
    words = _feistel(positions.astype(np.uint64), half_bits, round_keys)
    while (outside := words >= length).any():
        words[outside] = _feistel(words[outside], half_bits, round_keys)
    return words.astype(np.int64)


def endless(positions: Indices, length: int, seed: int) -> Indices:
    """Entries of the order that goes through range(length) again and again, in another permutation each time."""
    epochs, within = np.divmod(positions, length)
    order = np.empty_like(positions)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        order[here] = permuted(within[here], length, (seed, int(epoch)))
    return order


def _feistel(words: _Words, half_bits: int, round_keys: _Words) -> _Words:
    bits, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = words >> bits, words & mask
    for round_key in round_keys:
        left, right = right, left ^ (_mixed(right ^ round_key) & mask)
    return (left << bits) | right


def _mixed(words: _Words) -> _Words:
    """The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): every bit depends on every bit."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
