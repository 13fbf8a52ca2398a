"""What word2vec draws: which frequent words stay, and noise; and the tree that can replace the noise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_WHOLE = float(1 << 32)
_MOST = (1 << 32) - 1


def keep_probabilities(counts: NDArray[np.int64], sample: float) -> NDArray[np.float64]:
    """How likely each word stays in the text: (sqrt(f / t) + 1) t / f, at most 1 (word2vec.c)."""
    if sample == 0:
        return np.ones(len(counts))
    threshold = sample * counts.sum()
    return np.minimum((np.sqrt(counts / threshold) + 1) * threshold / counts, 1.0)


def in_32_bits(probabilities: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Thresholds that a 32-bit random number does not exceed with these probabilities."""
    return np.clip(np.round(probabilities * _WHOLE) - 1, 0, _MOST).astype(np.uint32)


@dataclass(frozen=True)
class Noise:
    """Walker's alias method (1977): one random number gives a word, however many there are.

    The upper half of 64 bits chooses a place, the lower half whether its word or its `alias` is taken. The
    published program looks into a table of 10^8 words instead, which holds the same distribution less exactly.
    """

    threshold: NDArray[np.uint32]  # (V,)
    alias: NDArray[np.uint32]  # (V,)

    @classmethod
    def of(cls, counts: NDArray[np.int64], power: float) -> "Noise":
        """Noise in which a word's share is as its count ** power."""
        weights = counts.astype(np.float64) ** power
        share = weights * (len(counts) / weights.sum())
        alias = np.arange(len(counts), dtype=np.uint32)
        poor = [int(i) for i in np.flatnonzero(share < 1)]
        rich = [int(i) for i in np.flatnonzero(share >= 1)]
        while poor and rich:
            taker, giver = poor.pop(), rich[-1]
            alias[taker] = giver
            share[giver] -= 1 - share[taker]
            if share[giver] < 1:
                poor.append(rich.pop())
        # What rounding leaves in either list has its own place in full.
        share[[*poor, *rich]] = 1
        return cls(in_32_bits(share), alias)


@dataclass(frozen=True)
class Tree:
    """A Huffman tree over the words; word w's path is [offsets[w], offsets[w + 1]) of nodes and labels."""

    offsets: NDArray[np.int64]  # (V + 1,)
    nodes: NDArray[np.int32]  # inner nodes, the root first: V - 1 of them
    labels: NDArray[np.float32]  # 1 - the code's bit, as in word2vec.c

    @classmethod
    def of(cls, counts: NDArray[np.int64]) -> "Tree":
        """The tree of words whose counts do not rise, as word2vec.c's CreateBinaryTree builds it."""
        size = len(counts)
        weights = [int(count) for count in counts] + [1 << 60] * size
        parent, bit = [0] * (2 * size), [0] * (2 * size)
        leaf, inner = size - 1, size
        for made in range(size, 2 * size - 1):
            pair = []
            for _ in range(2):
                if leaf >= 0 and weights[leaf] < weights[inner]:
                    pair.append(leaf)
                    leaf -= 1
                else:
                    pair.append(inner)
                    inner += 1
            weights[made] = weights[pair[0]] + weights[pair[1]]
            parent[pair[0]] = parent[pair[1]] = made
            bit[pair[1]] = 1
        return cls._paths(size, parent, bit)

    @classmethod
    def _paths(cls, size: int, parent: list[int], bit: list[int]) -> "Tree":
        root = 2 * size - 2
        offsets, nodes, labels = [0], list[int](), list[float]()
        for word in range(size):
            path, turns, node = list[int](), list[float](), word
            while node != root:
                turns.append(1.0 - bit[node])
                node = parent[node]
                path.append(node - size)
            nodes += reversed(path)
            labels += reversed(turns)
            offsets.append(len(nodes))
        return cls(np.array(offsets, np.int64), np.array(nodes, np.int32), np.array(labels, np.float32))
