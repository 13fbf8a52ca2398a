"""The words that get a vector, with their counts, and the text as their ids: read once, in bounded memory."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundup.errors import UserError
from groundup.files import file_atomically
from groundup.words.text import Words

END = -1
"""Stands in a text of ids where a document ends: no window reaches across."""

MOST_WORDS = 21_000_000
"""More different words than this are not counted at once: 0.7 of the published program's table."""

_BLOCK = 1 << 22  # ids


@dataclass(frozen=True)
class Vocabulary:
    """Words in order of frequency, equal ones in the alphabet's; a word's id is its place."""

    words: list[str]
    counts: NDArray[np.int64]  # (V,)

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of each word."""
        return {word: number for number, word in enumerate(self.words)}

    @property
    def num_tokens(self) -> int:
        """Running words of the text that are in the vocabulary."""
        return int(self.counts.sum())

    def __len__(self) -> int:
        return len(self.words)

    def equals(self, other: "Vocabulary") -> bool:
        """Whether words and counts are the same."""
        return self.words == other.words and np.array_equal(self.counts, other.counts)

    def save(self, path: Path) -> None:
        """Write `word count` lines, as the published programs do."""
        with file_atomically(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{word} {count}\n" for word, count in zip(self.words, self.counts, strict=True))

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read what `save` wrote; UserError where a line is no word and count."""
        words, counts = [], []
        for number, line in enumerate(path.read_text("utf-8", "replace").removesuffix("\n").split("\n"), 1):
            word, _, times = line.rpartition(" ")
            if not word or not times.isdecimal():
                raise UserError(f"{path}, line {number}: {line[:60]!r} is not a word and its count; train again")
            words.append(word)
            counts.append(int(times))
        return cls(words, np.array(counts, np.int64))


def read_words(
    lists: Iterable[Words], min_count: int, folder: Path, most_words: int = MOST_WORDS
) -> tuple[Vocabulary, NDArray[np.int32]]:
    """The words that occur `min_count` times, and the text as their ids, mapped from a file in `folder`.

    Other words are left out of the text, as the published programs do; END stands behind each document. Memory
    grows only with the number of different words. Whenever there are more than `most_words`, the rarest are
    forgotten, each time one count further up, as in word2vec.c's ReduceVocab; what was forgotten does not count
    for a word that comes back.

    Raises:
        UserError: fewer than two words occur `min_count` times.
    """
    first_seen = _FirstSeen(most_words)
    draft = folder / "draft"
    with draft.open("wb") as file:
        for words, ends in lists:
            first_seen.ids_of(words).tofile(file)
            if ends:
                np.array([END], np.int32).tofile(file)
    vocabulary, places = first_seen.vocabulary(min_count)
    final = folder / "ids"
    with final.open("wb") as file:
        for begin in range(0, draft.stat().st_size // 4, _BLOCK):
            ids = np.fromfile(draft, np.int32, _BLOCK, offset=4 * begin)
            renamed = np.where(ids == END, END, places[ids])
            renamed[renamed != _ABSENT].tofile(file)
    draft.unlink()
    return vocabulary, np.memmap(final, np.int32, "r")


_ABSENT = -2


class _FirstSeen:
    """Words numbered as they are met, so that the text has to be read only once, and their counts."""

    def __init__(self, most_words: int) -> None:
        self._most_words = most_words
        self._counts = np.zeros(0, np.int64)
        self._next = count()
        self._ids: defaultdict[str, int] = defaultdict(self._next.__next__)
        self._forgotten = 0

    def ids_of(self, words: list[str]) -> NDArray[np.int32]:
        """Number and count `words`."""
        ids = np.fromiter(map(self._ids.__getitem__, words), np.int32, len(words))
        counts = np.bincount(ids, minlength=len(self._counts))
        counts[: len(self._counts)] += self._counts
        self._counts = counts
        while len(self._ids) > self._most_words:
            self._forgotten += 1
            kept = {word: number for word, number in self._ids.items() if self._counts[number] > self._forgotten}
            self._ids = defaultdict(self._next.__next__, kept)
        return ids

    def vocabulary(self, min_count: int) -> tuple[Vocabulary, NDArray[np.int32]]:
        """The frequent words, and for each number given its word's place among them or _ABSENT."""
        frequent = [(word, number) for word, number in self._ids.items() if self._counts[number] >= min_count]
        if len(frequent) < 2:
            raise UserError(
                f"{len(self._ids):,} different words, of which {len(frequent)} occur {min_count} times; "
                "give more text or a smaller --min-count"
            )
        frequent.sort(key=lambda pair: (-self._counts[pair[1]], pair[0]))
        numbers = np.array([number for _, number in frequent])
        places = np.full(len(self._counts), _ABSENT, np.int32)
        places[numbers] = np.arange(len(numbers))
        return Vocabulary([word for word, _ in frequent], self._counts[numbers]), places
