"""Rows for an encoder, and which of their tokens it is asked about."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from groundup.objective.base import Setting, Windows, refuse_border

_SHARE = 0.15
_NGRAMS = (0.4, 0.3, 0.2, 0.1)

Positions = npt.NDArray[np.int64]


class EncoderRows:
    """Texts between `<|cls|>` and `<|sep|>`, in rows of exactly the model's context."""

    def __init__(self, setting: Setting):
        assert setting.shape is not None, "an encoder's objective needs its shape"
        refuse_border(setting)
        self.cls, self.sep = setting.special["<|cls|>"], setting.special["<|sep|>"]
        self.context = setting.shape.context
        self.is_special_V = np.zeros(setting.shape.vocabulary_size, np.bool_)
        self.is_special_V[list(setting.special.values())] = True
        self._starts_word_V = setting.starts_word_V

    def enclosed(self, *texts: Windows) -> Windows:
        """`<|cls|>` first text `<|sep|>` second text `<|sep|>`, (B, context), of texts (B, any)."""
        count = len(texts[0])
        parts = [np.full((count, 1), self.cls)]
        for text in texts:
            parts += [text, np.full((count, 1), self.sep)]
        return np.concatenate(parts, axis=1).astype(np.int64)

    def candidates(self, ids_T: Windows) -> Positions:
        """The positions of all tokens that are not special."""
        return np.flatnonzero(~self.is_special_V[ids_T])

    def words(self, ids_T: Windows) -> list[Positions]:
        """The positions of each word's tokens; a special token ends a word."""
        candidates = self.candidates(ids_T)
        begins = np.diff(candidates, prepend=-2) > 1
        if self._starts_word_V is None:
            begins[:] = True
        else:
            begins |= self._starts_word_V[ids_T[candidates]]
        return np.split(candidates, np.flatnonzero(begins)[1:]) if len(candidates) else []


def num_chosen(num_candidates: int, least: int = 1) -> int:
    """15 % of them, at least `least`, as far as there are so many."""
    return min(num_candidates, max(least, round(_SHARE * num_candidates)))


def choose_words(words: Sequence[Positions], number: int, random: np.random.Generator) -> Positions:
    """The positions of at most `number` tokens, sorted: whole words in random order, as long as there is room.

    BERT's own rule; where all words are longer than that, it is the shortest.
    """
    return _chosen(((index, 1) for index in random.permutation(len(words)).tolist()), words, number)


def choose_ngrams(words: Sequence[Positions], number: int, random: np.random.Generator) -> Positions:
    """As `choose_words`, but up to 4 words next to each other, as `ngrams` draws them."""
    attempts = 8 * number if words else 0  # what overlaps is drawn again
    return _chosen(zip(*ngrams(len(words), attempts, random), strict=True), words, number)


def ngrams(num_words: int, count: int, random: np.random.Generator) -> tuple[list[int], list[int]]:
    """The first words of `count` n-grams, and how many words each has: 1 to 4, with 40, 30, 20 and 10 %.

    The chances are those of MacBERT (Cui et al. 2020, arXiv:2004.13922), which is by PERT's authors.
    """
    lengths = np.minimum(random.choice(len(_NGRAMS), count, p=_NGRAMS) + 1, num_words)
    return random.integers(0, num_words - lengths + 1).tolist(), lengths.tolist()


def _chosen(spans: Iterable[tuple[int, int]], words: Sequence[Positions], number: int) -> Positions:
    """`spans` are of words: the first, and how many."""
    taken: set[int] = set()
    room = number
    for first, length in spans:
        span = range(first, first + length)
        size = sum(len(words[index]) for index in span)
        if size <= room and taken.isdisjoint(span):
            taken.update(span)
            room -= size
        if not room:
            break
    if words and not taken:
        taken = {min(range(len(words)), key=lambda index: len(words[index]))}
    return np.sort(np.concatenate([words[index] for index in taken])) if taken else np.empty(0, np.int64)
