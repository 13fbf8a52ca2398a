"""What `native/` does, in plain Python: the same random numbers in the same order, slowly."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.words import formulas

LONGEST_SENTENCE = 1000
_MASK = (1 << 64) - 1

ModelArguments = tuple[Any, ...]
"""Weights, shape and draws, in the order of `_native.pyi`."""


class Random:
    """SplitMix64 (Steele, Lea and Flood 2014); `state` is uint64 (1,)."""

    def __init__(self, state: NDArray[np.uint64]) -> None:
        self._state = state

    def next(self) -> int:
        """64 random bits."""
        state = (int(self._state[0]) + 0x9E3779B97F4A7C15) & _MASK
        self._state[0] = state
        bits = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        bits = ((bits ^ bits >> 27) * 0x94D049BB133111EB) & _MASK
        return bits ^ bits >> 31

    def below(self, limit: int) -> int:
        """A number from 0 up to, not including, `limit`."""
        return (self.next() >> 32) * limit >> 32


def train(
    model: ModelArguments, ids: NDArray[np.int32], begin: int, end: int, wanted: int, lr: float,
    state: NDArray[np.uint64],
) -> tuple[int, int, float, int]:  # fmt: skip
    """Learn from whole sentences until `wanted` words are seen; position, words, loss, and of how many steps."""
    inputs, outputs, _, tree, cbow, mean, window, negative, keep, *draws = model
    random = Random(state)
    position, words, loss, measured = begin, 0, 0.0, 0
    while position < end and words < wanted:
        sentence, position, seen = _sentence(ids, position, end, keep, random)
        words += seen
        for centre, word in enumerate(sentence):
            reach = window - random.below(window)
            context = sentence[max(centre - reach, 0) : centre] + sentence[centre + 1 : centre + 1 + reach]
            for given in [context] if cbow and context else [[one] for one in context]:
                rows, labels = _asked(word, tree, negative, draws, random)
                cost = formulas.word2vec_step(inputs, outputs, given, rows, labels, lr, tree=tree, mean=mean)
                if centre % 16 == 0:
                    loss, measured = loss + cost, measured + 1
    return position, words, loss, measured


def _sentence(
    ids: NDArray[np.int32], position: int, end: int, keep: NDArray[np.uint32], random: Random
) -> tuple[list[int], int, int]:
    """The words of a sentence that stay, where the next begins, and how many words were seen."""
    sentence: list[int] = []
    seen = 0
    while position < end and len(sentence) < LONGEST_SENTENCE:
        word = int(ids[position])
        position += 1
        if word < 0:
            break
        seen += 1
        if not len(keep) or random.next() >> 32 <= keep[word]:
            sentence.append(word)
    return sentence, position, seen


def _asked(
    word: int, tree: bool, negative: int, draws: list[NDArray[Any]], random: Random
) -> tuple[list[int], list[float]]:
    """The rows of the outputs that are asked about `word`, and their answers."""
    threshold, alias, offsets, nodes, labels = draws
    if tree:
        path = slice(offsets[word], offsets[word + 1])
        return nodes[path].tolist(), labels[path].tolist()
    noise = [drawn for drawn in _noise(negative, threshold, alias, random) if drawn != word]
    return [word, *noise], [1.0] + [0.0] * len(noise)


def _noise(
    negative: int, threshold: NDArray[np.uint32], alias: NDArray[np.uint32], random: Random
) -> Iterator[int]:
    for _ in range(negative):
        bits = random.next()
        drawn = (bits >> 32) * len(threshold) >> 32
        yield drawn if bits & 0xFFFFFFFF <= threshold[drawn] else int(alias[drawn])


def learn(
    model: ModelArguments,
    words: NDArray[np.int32],
    rows: NDArray[np.int32],
    labels: NDArray[np.float32],
    lr: float,
) -> float:
    """One prediction with the given rows and answers; its loss."""
    inputs, outputs, _, tree, _, mean, *_ = model
    given, asked, answers = words.tolist(), rows.tolist(), labels.tolist()
    return formulas.word2vec_step(inputs, outputs, given, asked, answers, lr, tree=tree, mean=mean)


def glove(
    side: tuple[Any, ...], other: tuple[Any, ...], records: NDArray[np.void], stride: int, lr: float, most: float,
    power: float,
) -> float:  # fmt: skip
    """Learn from records in their order; the sum of their losses."""
    del stride
    return sum(
        formulas.glove_step(side, other, int(row), int(column), float(count), lr, most, power)
        for row, column, count in records
    )
