"""Bytes of text: where they may be cut, and how a stream of them becomes documents."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from typing import Literal, get_args

from groundup.errors import UserError, nearest

Split = Literal["none", "blank-lines", "endoftext"]

PART_BYTES = 8 << 20
"""A document longer than this (8 MiB) is delivered as several consecutive parts."""

READ_BYTES = 1 << 20
END_OF_TEXT = b"<|endoftext|>"

_SEPARATOR = re.compile(re.escape(END_OF_TEXT) + rb"(?:\r?\n)?")


@dataclass(frozen=True)
class Part:
    """A document, or one of the consecutive parts of a long one."""

    data: bytes
    ends_document: bool = True


def check_split(split: str) -> None:
    """Raise UserError unless `split` names one of the ways to separate documents."""
    if split not in get_args(Split):
        raise UserError(f"split = {split!r} is unknown{nearest(split, get_args(Split))}")


def encode_text(text: str) -> bytes:
    """UTF-8, inverse to decoding with `surrogateescape`; other lone surrogates keep their three-byte form."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def cut_before(data: bytes | bytearray, limit: int, reach: int | None = None) -> int:
    """Where to cut `data` so that the first part has at most `limit` bytes.

    After the last line break among the `reach` bytes before `limit` (by default its second half), else before
    the UTF-8 character that stands there; bytes that are not UTF-8 are cut at `limit` exactly. With
    `limit` >= 4 the result is at least 1, so that cutting again and again comes to an end.
    """
    if limit >= len(data):
        return len(data)
    lowest = limit // 2 if reach is None else max(limit - reach, 0)
    if line_break := data.rfind(b"\n", lowest, limit) + 1:
        return line_break
    for cut in range(limit, max(limit - 4, -1), -1):
        if data[cut] & 0xC0 != 0x80:  # not a continuation byte: a character begins here
            return cut
    return limit


def read_parts(file: BufferedReader, split: Split) -> Iterator[Part]:
    """Cut a stream of text into documents, in constant memory.

    `none`: the stream is one document. `blank-lines`: documents are separated by lines of white space only.
    `endoftext`: documents are separated by `<|endoftext|>`; a line break right behind it goes with it.
    A document of more than PART_BYTES comes in parts of at most that size, cut as `cut_before` says; joining
    the parts gives the document back.
    """
    pieces = {"none": _whole, "blank-lines": _between_blank_lines, "endoftext": _between_separators}[split]
    document = bytearray()
    for piece in pieces(file):
        if piece is None:
            yield Part(bytes(document))
            document.clear()
            continue
        document += piece
        while len(document) > PART_BYTES:
            cut = cut_before(document, PART_BYTES)
            yield Part(bytes(document[:cut]), ends_document=False)
            del document[:cut]
    yield Part(bytes(document))


def without_empty(parts: Iterator[Part]) -> Iterator[Part]:
    """Drop the documents that are only white space.

    Of a document in parts, leading parts of only white space (megabytes of it) are dropped as well, because
    it cannot be known in constant memory whether anything follows them.
    """
    inside = False
    for part in parts:
        if inside or (part.data and not part.data.isspace()):
            yield part
            inside = not part.ends_document


# Each of these yields the bytes of the documents in order, in bounded pieces, and None where one ends.


def _whole(file: BufferedReader) -> Iterator[bytes | None]:
    while piece := file.read(READ_BYTES):
        yield piece


def _between_blank_lines(file: BufferedReader) -> Iterator[bytes | None]:
    begins_line = True
    while line := file.readline(READ_BYTES):  # the limit bounds the memory where there are no line breaks
        if begins_line and line.isspace():
            yield None
        else:
            yield line
        begins_line = line.endswith(b"\n")


def _between_separators(file: BufferedReader) -> Iterator[bytes | None]:
    held = b""  # what may be the beginning of a separator
    while data := file.read(READ_BYTES):
        data = held + data
        if data.endswith((END_OF_TEXT, END_OF_TEXT + b"\r")):
            data += file.read(2)  # the line break that belongs to it
        *documents, rest = _SEPARATOR.split(data)
        for document in documents:
            yield document
            yield None
        keep = len(END_OF_TEXT) - 1
        held = rest[-keep:]
        yield rest[:-keep]
    yield held
