"""Cutting with several patterns, one after the other."""

from collections.abc import Callable
from functools import lru_cache
from itertools import chain

from groundup.tokenizer.pretokenize import splitter


@lru_cache(maxsize=16)
def splitter_in_turn(patterns: tuple[str, ...]) -> Callable[[str], list[str]]:
    """A function that cuts a text by the first pattern, each piece by the second, and so on.

    A pattern sees one piece as its whole text: what looks ahead or behind ends at the piece's borders, as in a
    sequence of Hugging Face's `Split`. Joined, the pieces are the text again.
    """
    first, *further = map(splitter, patterns)
    if not further:
        return first

    def split(text: str) -> list[str]:
        pieces = first(text)
        for cut in further:
            pieces = list(chain.from_iterable(map(cut, pieces)))
        return pieces

    return split
