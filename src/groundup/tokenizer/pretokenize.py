"""Pre-tokenization: text is cut into pieces (roughly words), and merges happen only inside a piece."""

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate, pairwise

import regex

from groundup.errors import UserError, nearest
from groundup.tokenizer.portable import check_portable
from groundup.tokenizer.unicode import frozen

_O200K_UPPER, _O200K_LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_CL100K = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# The forms without possessive quantifiers, as in Hugging Face's files: the same pieces as OpenAI's.
PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k": _CL100K,
    # As tiktoken has it now: white space at the very end of the text is one piece, whatever is in it.
    "cl100k-tiktoken": _CL100K.replace(r"|\s*[\r\n]+", r"|\s+(?![\s\S])|\s*[\r\n]+"),
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
    check_portable(pattern)
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
    Letters, numbers and marks are those of Unicode 16.0.
    """
    expression = regex.compile(pattern)

    def split(text: str) -> list[str]:
        classed = frozen(text)
        if pattern in _COVERING:
            pieces = expression.findall(classed)
            if classed is text:
                return pieces
            ends = list(accumulate(map(len, pieces), initial=0))
            return [text[start:end] for start, end in pairwise(ends)]
        pieces, position = [], 0
        for match in expression.finditer(classed):
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


def as_utf8(document: str | bytes) -> bytes:
    """The document's bytes; lone surrogates in a string as `as_text` says."""
    if isinstance(document, bytes):
        return document
    try:
        return document.encode()
    except UnicodeEncodeError:
        return as_bytes(as_text(document))


_LETTER = rb"(?:[A-Za-z]|[\xe5-\xe9][\x80-\xbf]{2})"  # ASCII and most of Han
_SOLID = (  # what is no white space: ASCII, Han and their punctuation
    rb"(?:(?<=[!-~])|(?<=[\xe5-\xe9][\x80-\xbf]{2})|(?<=\xe3\x80[\x81\x82])"
    rb"|(?<=\xef\xbc[\x80-\xbf])|(?<=\xe2\x80[\x90-\x9f]))"
)
_BREAK = rb"(?=[ \t\r\n,.;:!?]|\xe3\x80[\x81\x82]|\xef\xbc[\x81\x8c\x9a\x9b\x9f])"  # these and 、。！，：；？
_WORD_END = rb"(?:(?<=[A-Za-z0-9])|(?<=[\xe5-\xe9][\x80-\xbf]{2}))"
_SURE_CUT = re.compile(_WORD_END + _BREAK + rb"|" + _SOLID + rb"[\r\n](?=" + _LETTER + rb")")
_NEARBY_BYTES = 1 << 12


def sure_cut(text: bytes, start: int, end: int) -> int:
    """The last place in start+1..end-1 where a piece begins whatever stands around it; `start` if there is none.

    True of all `PATTERNS`: white space or punctuation after a letter or a digit, and a letter after one line end.
    Text may be cut there, and its parts encoded by themselves, without a change of ids.
    """
    last = end
    while last > start:
        first = max(start, last - _NEARBY_BYTES)
        offset = max(first - 4, start)
        window = text[offset : min(last + 4, end)]  # with what stands around a place at either end
        places = [offset + found.end() for found in _SURE_CUT.finditer(window)]
        if places and places[-1] > start:
            return places[-1]
        last = first
    return start
