"""Kinds of files: plain text, JSON lines and parquet, as they are or compressed."""

import gzip
import json
import lzma
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from groundup.data.text import Part, Split, encode_text, read_parts
from groundup.errors import UserError

COMPRESSED = (".gz", ".xz", ".zst")
JSON_LINES = (".jsonl", ".ndjson")
PARQUET = ".parquet"

_BUFFER_BYTES = 1 << 16
_SNIFFED_BYTES = 8 << 10
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ROWS = 64  # rows of parquet decoded at a time: documents can be megabytes long


class NotTextError(UserError):
    """The file is binary or in another encoding: an error where it was named, a skip inside a folder."""


def read_file(path: Path, *, field: str = "text", split: Split = "none") -> Iterator[Part]:
    """Yield the documents of one file, empty ones included.

    `.jsonl`/`.ndjson`: a document is `field` of a line (memory: the longest line). `.parquet`: `field` of a
    row (memory: the longest row group). Anything else is text, cut by `split`. The first two keep invalid
    UTF-8 and lone surrogates; text is never decoded at all.

    Raises NotTextError for binary files, UserError for what is damaged, malformed or lacks `field`.
    """
    kind, compression = suffixes_of(path)
    if kind == PARQUET:
        if compression:
            raise UserError(f"{path}: parquet is compressed inside; decompress this file first")
        yield from _read_parquet(path, field)
        return
    with open_text(path) as file:
        if kind in JSON_LINES:
            yield from _read_json_lines(file, str(path), field)
        else:
            yield from read_parts(file, split)


def suffixes_of(path: Path) -> tuple[str, str]:
    """The suffix that says what a file holds, and that of its compression, in lower case; empty where missing."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = bool(suffixes) and suffixes[-1] in COMPRESSED
    kind = "".join(suffixes[:-1][-1:] if compressed else suffixes[-1:])
    return kind, suffixes[-1] if compressed else ""


def read_standard_input(split: Split) -> Iterator[Part]:
    """Yield the documents of the text on standard input."""
    file = _buffered(sys.stdin.buffer)
    try:
        _check_is_text(file, "standard input")
        yield from read_parts(file, split)
    finally:
        file.detach()  # leaves standard input open


_CHOOSE = "--set data.field=NAME, or --field NAME for `groundup tokenizer`"


def field_of(record: Any, field: str, where: str, choose: str = f"choose one: {_CHOOSE}") -> bytes:
    """The text under `field` of one record as bytes; null is empty. UserError if there is no such text."""
    if field not in record:
        there = ", ".join(sorted(map(str, record))) or "none"
        raise UserError(f"{where}: no field {field!r}; the fields are: {there}; {choose}")
    value = record[field]
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        kind = type(value).__name__
        raise UserError(f"{where}: field {field!r} is {kind}, not text; {choose}")
    return encode_text(value)


@contextmanager
def open_text(path: Path) -> Iterator[BufferedReader]:
    """Open for reading, decompressing on the way; damage and binary content become UserErrors."""
    compression = suffixes_of(path)[1]
    try:
        with path.open("rb") as raw, _decompressed(raw, compression) as file:
            _check_is_text(file, str(path))
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise UserError(f"{path}: damaged or truncated {compression} file ({error}); fetch it again") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


def _decompressed(raw: BinaryIO, compression: str) -> BufferedReader:
    if compression == ".gz":
        return _buffered(gzip.GzipFile(fileobj=raw))
    if compression == ".xz":
        return _buffered(lzma.LZMAFile(raw))
    if compression == ".zst":
        return _buffered(_ZstandardFile(raw))
    return _buffered(raw)


def _buffered(stream: Any) -> BufferedReader:
    """With a buffer that can be peeked into, whatever bytes `stream` gives."""
    return BufferedReader(stream, _BUFFER_BYTES)


class _ZstandardFile(RawIOBase):
    """Decompress one or more frames; unlike zstandard's own reader it notices when the last one is cut off."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._compressed = b""
        self._ready = memoryview(b"")
        self._frame: Any = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        filled = 0
        while filled < len(buffer) and (self._ready or self._decompress()):
            piece = self._ready[: len(buffer) - filled]
            buffer[filled : filled + len(piece)] = piece
            self._ready = self._ready[len(piece) :]
            filled += len(piece)
        return filled

    def _decompress(self) -> bool:
        """Decompress the next block of a few kilobytes; False at the end of the file."""
        block = self._compressed or self._raw.read(_SNIFFED_BYTES)
        if not block:
            if self._frame is not None:
                raise EOFError("the last frame is incomplete")
            return False
        if self._frame is None:  # the largest window that `zstd --long=31` can have written
            self._frame = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
        self._ready = memoryview(self._frame.decompress(block))
        self._compressed = b""
        if self._frame.eof:
            self._compressed = self._frame.unused_data
            self._frame = None
        return True


def _check_is_text(file: BufferedReader, name: str) -> None:
    """Look at the first 8 KiB, raise NotTextError if they are not text, and skip a UTF-8 byte order mark."""
    head = file.peek(_SNIFFED_BYTES)[:_SNIFFED_BYTES]
    if _looks_like_utf16(head):
        raise NotTextError(f"{name}: UTF-16 text; convert it first: iconv -f UTF-16 -t UTF-8 {name}")
    if b"\0" in head:
        raise NotTextError(f"{name}: a binary file (it has NUL bytes); give text, .jsonl or .parquet")
    if head.startswith(_BYTE_ORDER_MARK):
        file.read(len(_BYTE_ORDER_MARK))


def _looks_like_utf16(head: bytes) -> bool:
    """A UTF-16 byte order mark, or Latin text without one: every other byte is mostly NUL, the rest never."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    nuls = sorted((head[0::2].count(0), head[1::2].count(0)))
    return nuls[0] == 0 and nuls[1] > len(head) // 4


def _read_json_lines(lines: Iterable[bytes], name: str, field: str) -> Iterator[Part]:
    for where, record in json_records(lines, name, field):
        yield Part(field_of(record, field, where))


def json_records(
    lines: Iterable[bytes], name: str, field: str = "text", *, example: str | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where it stands ("file, line 3") and what it holds, of each line that is not empty.

    Raises UserError for what is no JSON object; it gives an `example`, by default one with `field`.
    """
    example = example or f'{{"{field}": "..."}}'
    for number, line in enumerate(lines, start=1):
        if line.isspace():
            continue
        where = f"{name}, line {number}"
        try:
            record = json.loads(line.decode("utf-8", "surrogateescape"))
        except ValueError as error:
            raise UserError(f"{where}: not JSON ({error}); mend or remove the line") from error
        if not isinstance(record, dict):
            raise UserError(f"{where}: not a JSON object such as {example}; mend or remove the line")
        yield where, record


def _read_parquet(path: Path, field: str) -> Iterator[Part]:
    for record in parquet_records(path, field):
        yield Part(field_of(record, field, str(path)))


def parquet_records(path: Path, field: str | None = None) -> Iterator[dict[str, Any]]:
    """The rows, or only their `field`; UserError if the file is damaged or lacks it. Memory: a row group."""
    import pyarrow
    from pyarrow import parquet

    try:
        # Without pre-buffering and one row group after the other, so that memory does not grow with the file.
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES) as file:
            names = file.schema_arrow.names
            if field is not None and field not in names:
                field_of(dict.fromkeys(names), field, str(path))
            columns = None if field is None else [field]
            for group in range(file.num_row_groups):
                for rows in file.iter_batches(_ROWS, row_groups=[group], columns=columns):
                    yield from rows.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not a readable parquet file ({reason}); fetch it again") from error
