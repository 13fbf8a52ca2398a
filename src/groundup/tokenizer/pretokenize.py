"""Pre-tokenization: text is cut into pieces (roughly words), and merges happen only inside a piece."""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from operator import length_hint

import regex

from groundup.errors import UserError, nearest

_O200K_UPPER, _O200K_LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"

# The forms without possessive quantifiers, as in Hugging Face's files: the same pieces as OpenAI's.
PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k": (
        rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "qwen2": (
        rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "o200k": (
        rf"[^\r\n\p{{L}}\p{{N}}]?{_O200K_UPPER}*{_O200K_LOWER}+{_CONTRACTIONS}?"
        rf"|[^\r\n\p{{L}}\p{{N}}]?{_O200K_UPPER}+{_O200K_LOWER}*{_CONTRACTIONS}?|\p{{N}}{{1,3}}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}
_COVERING = frozenset(PATTERNS.values())
"""Patterns whose matches are never empty and leave nothing between them, whatever the text."""

_PAIRED_SURROGATES = regex.compile(r"[\uD800-\uDBFF][\uDC00-\uDFFF]")
_UNPAIRED_SURROGATES = regex.compile(r"[\uD800-\uDC7F\uDD00-\uDFFF]")


def resolve_pattern(pattern: str) -> str:
    """The regular expression of a named pattern, or `pattern` itself if it is one; UserError if it is neither."""
    if pattern in PATTERNS:
        return PATTERNS[pattern]
    if regex.fullmatch(r"[\w-]*", pattern):
        raise UserError(f"unknown pattern '{pattern}'{nearest(pattern, PATTERNS)}, or a regular expression")
    if regex.search(r"\{[\d,]+\}\+", pattern):
        # Oniguruma, which reads our files inside Hugging Face's tokenizers, takes this + as a repetition.
        raise UserError(
            f"pattern {pattern!r} has a possessive {{n,m}}+, which Hugging Face reads otherwise; "
            "write (?>x{n,m})"
        )
    try:
        pattern.encode()
        regex.compile(pattern)
    except (regex.error, UnicodeEncodeError) as error:
        raise UserError(f"pattern {pattern!r} is not a regular expression: {error}") from None
    return pattern


@lru_cache(maxsize=16)
def splitter(pattern: str) -> Callable[[str], list[str]]:
    """A function that cuts a text into its pieces; joined, they are the text again.

    Text between the matches is kept as pieces of its own, as Hugging Face's `Split(..., "isolated")` does.
    """
    expression = regex.compile(pattern)
    if pattern in _COVERING:
        return expression.findall

    def split(text: str) -> list[str]:
        pieces: list[str] = []
        position = 0
        for match in expression.finditer(text):
            start, end = match.span()
            pieces += (text[position:start], text[start:end])
            position = end
        pieces.append(text[position:])
        return [piece for piece in pieces if piece]

    return split


def as_text(document: str | bytes) -> str:
    """The document as text from which `as_bytes` gives every byte back.

    Bytes that are not UTF-8 become the lone surrogates U+DC80..U+DCFF (PEP 383, `surrogateescape`). In a string,
    paired surrogates become their character and other lone ones U+FFFD, as tiktoken does.
    """
    if isinstance(document, bytes):
        return document.decode("utf-8", "surrogateescape")
    try:
        document.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        document = _PAIRED_SURROGATES.sub(
            lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), document
        )
        return _UNPAIRED_SURROGATES.sub("\ufffd", document)
    return document


def as_bytes(piece: str) -> bytes:
    """The bytes of a piece of `as_text`'s text."""
    return piece.encode("utf-8", "surrogateescape")


def count_pieces(
    documents: Iterable[str | bytes], pattern: str, progress: Callable[[float], None] | None = None
) -> Counter[bytes]:
    """How often each piece occurs; holds one document and the distinct pieces in memory.

    `progress` is called with the fraction done after each document if `documents` knows its length.
    """
    split = splitter(pattern)
    total = length_hint(documents)
    counts: Counter[str] = Counter()
    for number, document in enumerate(documents, start=1):
        counts.update(split(as_text(document)))
        if progress and total:
            progress(min(number / total, 1.0))
    # Distinct texts can be the same bytes: "é", and its two bytes as lone surrogates.
    merged: Counter[bytes] = Counter()
    for piece, count in counts.items():
        merged[as_bytes(piece)] += count
    return merged
