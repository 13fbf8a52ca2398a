"""Text as words, streamed."""

from collections.abc import Callable, Iterable, Iterator

import regex

from groundup.data.sources import read
from groundup.data.text import Part, cut_before
from groundup.errors import UserError
from groundup.words.settings import TextSettings

WORDS = r"\p{Han}|[[\p{L}\p{M}\p{N}]--\p{Han}]+(?:['’][\p{L}\p{M}]+)*"
"""The pattern `words`: runs of letters and digits, apostrophes inside; Chinese characters one by one."""

_PIECE_BYTES = 1 << 20
_WHITE_SPACE = (b" ", b"\n", b"\t")

OnBytes = Callable[[int], None]
Words = tuple[list[str], bool]
"""Consecutive words of a document, and whether it ends behind them."""


def word_lists(text: TextSettings, on_bytes: OnBytes) -> Iterator[Words]:
    """The words of all documents, about a megabyte of text at a time; `on_bytes` is told how much has been read.

    Raises:
        UserError: a source cannot be read, or the pattern is no regular expression.
    """
    find = splitter(text.pattern, text.lower)
    for piece, ends in _pieces(read(text.sources, field=text.field, split=text.split)):
        yield find(piece.decode("utf-8", "replace")), ends
        on_bytes(len(piece))


def splitter(pattern: str, lower: bool) -> Callable[[str], list[str]]:
    """The function that cuts a text into words by `pattern`: words, whitespace or a regular expression."""
    if pattern == "whitespace":
        return lambda text: (text.lower() if lower else text).split()
    try:
        compiled = regex.compile(WORDS if pattern == "words" else pattern, regex.V1)
    except regex.error as error:
        raise UserError(
            f"--pattern {pattern!r} is not words, whitespace or a regular expression: {error}"
        ) from None

    def find(text: str) -> list[str]:
        text = text.lower() if lower else text
        return [found.group() for found in compiled.finditer(text) if found.end() > found.start()]

    return find


def _pieces(parts: Iterable[Part]) -> Iterator[tuple[bytes, bool]]:
    """Documents in pieces of a megabyte at most that begin and end at white space, where there is any."""
    held = bytearray()
    for part in parts:
        held += part.data
        while len(held) > _PIECE_BYTES:
            cut = max(held.rfind(space, 0, _PIECE_BYTES) for space in _WHITE_SPACE) + 1
            cut = cut or cut_before(held, _PIECE_BYTES)
            yield bytes(held[:cut]), False
            del held[:cut]
        if part.ends_document:
            yield bytes(held), True
            held.clear()
