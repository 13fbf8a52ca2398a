"""Texts as the package `tokenizers` takes them: valid Unicode, and long ones in parts where nothing is lost."""

from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable, Iterator
from operator import length_hint
from pathlib import Path
from unicodedata import normalize

import regex

from groundup.errors import UserError
from groundup.tokenizer.pretokenize import as_text

_READ_BYTES = 1 << 20
_BLOCK_CHARACTERS = 1 << 16
_BETWEEN_LETTERS = regex.compile(r"(?r)(?<=[\p{L}\p{N}\p{P}]) (?=[\p{L}\p{N}\p{P}])")


def valid_text(text: str | bytes) -> str:
    """The text with U+FFFD for bytes that are not UTF-8 and for lone surrogates."""
    if isinstance(text, bytes):
        return text.decode("utf-8", "replace")
    return regex.sub("[\ud800-\udfff]", "\ufffd", as_text(text))


def training_texts(
    documents: Iterable[str | bytes | Path], progress: Callable[[float], None] | None = None
) -> Iterator[str]:
    """The documents' texts; files come in parts. `progress` is called with the fraction done if that is known."""
    total = length_hint(documents)
    for number, document in enumerate(documents, start=1):
        if isinstance(document, Path):
            yield from cut_at_spaces(decoded(_read(document)))
        else:
            yield valid_text(document)
        if progress and total:
            progress(min(number / total, 1.0))


def _read(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as opened:
            while block := opened.read(_READ_BYTES):
                yield block
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}; give a file of text") from None


def decoded(chunks: Iterable[str | bytes]) -> Iterator[str]:
    """The pieces of one text as valid text; bytes of a character may come in two pieces."""
    decoder = getincrementaldecoder("utf-8")("replace")
    for chunk in chunks:
        yield (
            decoder.decode(chunk)
            if isinstance(chunk, bytes)
            else decoder.decode(b"", final=True) + valid_text(chunk)
        )
    yield decoder.decode(b"", final=True)


def cut_at_spaces(pieces: Iterable[str]) -> Iterator[str]:
    """The same text in larger parts, each but the first beginning with a space between two letters.

    Digits and punctuation count as letters. All our ways to normalise and cut end a piece there.
    """
    held, fresh, size = "", [], 0
    for piece in pieces:
        fresh.append(piece)
        size += len(piece)
        # To wait for as much again keeps the work linear where no place to cut is found.
        if size < max(_BLOCK_CHARACTERS, len(held)):
            continue
        held += "".join(fresh)
        fresh, size = [], 0
        if (at := _last_cut(held)) is not None:
            yield held[:at]
            held = held[at:]
    if rest := held + "".join(fresh):
        yield rest


def _last_cut(text: str) -> int | None:
    """The last place where a space stands between letters that contain no space when they are decomposed."""
    for found in _BETWEEN_LETTERS.finditer(text):
        at = found.start()
        if normalize("NFKC", text[at - 1 : at + 2]).count(" ") == 1:
            return at
    return None
