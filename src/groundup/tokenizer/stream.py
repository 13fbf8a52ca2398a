"""A text that comes in chunks, as parts that can be encoded by themselves."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import IO, Any

from groundup.tokenizer.pretokenize import as_utf8, sure_cut
from groundup.tokenizer.special import any_of

Chunks = Iterable[str | bytes]
TokenSets = Sequence[frozenset[str]]
_PART_BYTES = 1 << 22


def whole_parts(chunks: Chunks | IO[Any], special_tokens: TokenSets, cuts: bool) -> Iterator[bytes]:
    """Parts of a few megabytes; between them no piece is cut, and none of the special tokens.

    Args:
        chunks: an open file, or strings or bytes.
        special_tokens: sets of those that are looked for; each set by itself, so that none hides another's.
        cuts: whether the pattern allows cuts at all; otherwise the text is one part.
    """
    longest = max((len(token.encode()) for tokens in special_tokens for token in tokens), default=0)
    held, waiting, size = b"", [], 0
    for chunk in _read(chunks):
        waiting.append(as_utf8(chunk))
        size += len(waiting[-1])
        if size < _PART_BYTES or not cuts:
            continue
        searched = max(len(held) - longest - 8, 0)
        text = b"".join([held, *waiting])
        place = _place_to_cut(text, searched, special_tokens, longest)
        if place > searched:
            yield text[:place]
            text = text[place:]
        held, waiting, size = text, [], 0
    yield b"".join([held, *waiting])


def _read(chunks: Chunks | IO[Any]) -> Iterable[str | bytes]:
    """A file in blocks: its lines may be as long as it is."""
    if hasattr(chunks, "read"):
        return iter(lambda: chunks.read(_PART_BYTES), type(chunks.read(0))())
    return chunks


def _place_to_cut(text: bytes, start: int, special_tokens: TokenSets, longest: int) -> int:
    """The last place where the text may be cut; `start` if there is none."""
    end = len(text) - longest  # a special token that begins later may not be whole yet
    while (place := sure_cut(text, start, end)) > start:
        found = _found(text, min(place + longest, len(text)), special_tokens)
        if not any(token.start() < place < token.end() for token in found):
            return place
        end = place
    return start


def _found(text: bytes, end: int, special_tokens: TokenSets) -> Iterator[re.Match[bytes]]:
    """The special tokens before `end`, looked for from the start: one that is found hides those it overlaps."""
    return chain.from_iterable(any_of(tokens).finditer(text, 0, end) for tokens in special_tokens if tokens)
