"""Words and their vectors: neighbours and analogies by the cosine."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from groundup.errors import UserError

Method = Literal["add", "mul"]
"""3CosAdd (Mikolov and others 2013) or 3CosMul (Levy and Goldberg 2014)."""

_EPSILON = 0.001  # of 3CosMul, as in its paper
_SEARCHED = 200_000  # words among which a mistyped one is looked for


@dataclass(frozen=True)
class WordVectors:
    """Words, the most frequent first, and their vectors, float32 (V, D)."""

    words: Sequence[str]
    vectors: NDArray[np.float32]

    @classmethod
    def load(cls, path: str | Path) -> "WordVectors":
        """Read a folder that `groundup words train` wrote, or a file in word2vec's text or binary format."""
        from groundup.words import folder, formats

        place = Path(path)
        return formats.read(folder.vectors_file(place) if place.is_dir() else place)

    def save(self, path: str | Path) -> None:
        """Write word2vec's binary format where the name ends with .bin, else its text format."""
        from groundup.words import formats

        formats.write(self, Path(path))

    @cached_property
    def ids(self) -> dict[str, int]:
        """The place of each word; of words that occur twice, the first."""
        return {word: len(self.words) - 1 - place for place, word in enumerate(reversed(self.words))}

    @cached_property
    def units(self) -> NDArray[np.float32]:
        """The vectors scaled to length 1; zeros stay."""
        lengths = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return (self.vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32, copy=False)

    def find(self, word: str) -> int | None:
        """The place of a word as it stands, or else in lower case; None where it has no vector."""
        return self.ids.get(word, self.ids.get(word.lower()))

    def place(self, word: str) -> int:
        """The same; UserError with the most similar spellings where there is none."""
        found = self.find(word)
        if found is not None:
            return found
        close = get_close_matches(word.lower(), self.words[:_SEARCHED], n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "no known word is spelt like it"
        raise UserError(f"{word!r} has no vector (of {len(self.words):,} words); {hint}")

    def similarity(self, left: str, right: str) -> float:
        """The cosine of two words."""
        return float(self.units[self.place(left)] @ self.units[self.place(right)])

    def neighbours(self, words: Sequence[str], count: int = 10) -> list[tuple[str, float]]:
        """The words nearest to the mean direction of `words`, which are left out, and their cosines."""
        places = [self.place(word) for word in words]
        mean = self.units[places].mean(0)
        mean /= np.linalg.norm(mean) or 1
        return self._best(self.units @ mean, places, count)

    def analogy(self, a: str, b: str, c: str, count: int = 10, method: Method = "add") -> list[tuple[str, float]]:
        """What is to `c` as `b` is to `a`, with scores; the three words are left out."""
        places = [self.place(word) for word in (a, b, c)]
        return self._best(self.analogy_scores(np.array([places]), method)[0], places, count)

    def analogy_scores(self, questions: NDArray[np.int64], method: Method) -> NDArray[Any]:
        """Scores of all words for questions (N, 3) of places a, b, c: (N, V)."""
        a, b, c = (self.units[questions[:, number]] for number in range(3))
        if method == "add":
            return (b - a + c) @ self.units.T
        like_a, like_b, like_c = ((one @ self.units.T + 1) / 2 for one in (a, b, c))
        return like_b * like_c / (like_a + _EPSILON)

    def _best(self, scores: NDArray[Any], without: Sequence[int], count: int) -> list[tuple[str, float]]:
        scores = scores.copy()
        scores[list(without)] = -np.inf
        count = min(count, len(self.words) - len(set(without)))
        best = np.argsort(-scores, kind="stable")[:count]
        return [(self.words[place], float(scores[place])) for place in best]
