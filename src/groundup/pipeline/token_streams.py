"""Texts and ids in and out of files and pipes, in memory that does not grow with them."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from groundup.data.arrays import ArrayWriter
from groundup.errors import UserError
from groundup.files import file_atomically
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.special import Special
from groundup.tokenizer.statistics import AnyTokenizer

STANDARD_STREAM = "-"

_READ_BYTES = 1 << 20
_BLOCK_IDS = 1 << 18
_LINE_IDS = 20
_LONGEST_NUMBER = 100
_NPY_MAGIC = b"\x93NUMPY"

OnBytes = Callable[[int], None]
"""Called with the number of bytes done since the last call."""


@contextmanager
def opened(name: str) -> Iterator[BinaryIO]:
    """A file, or standard input for `-`, to read bytes from."""
    if name == STANDARD_STREAM:
        yield sys.stdin.buffer
        return
    with Path(name).open("rb") as file:
        yield file


def size_of(name: str) -> int | None:
    """The bytes of a file; None for a stream."""
    path = Path(name)
    return path.stat().st_size if name != STANDARD_STREAM and path.is_file() else None


def chunks(file: BinaryIO, on_bytes: OnBytes) -> Iterator[bytes]:
    """What a file holds, a mebibyte at a time."""
    while chunk := file.read(_READ_BYTES):
        yield chunk
        on_bytes(len(chunk))


def encode(
    tokenizer: AnyTokenizer, text: Iterable[bytes], allow_special: bool, threads: int | None
) -> Iterator[NDArray[np.uint32]]:
    """The ids of one text that comes in chunks, in blocks; with `allow_special` its special tokens become ids."""
    allowed: Special = "all" if allow_special else frozenset()
    if isinstance(tokenizer, Tokenizer):
        yield from tokenizer.encode_blocks(text, allowed, threads=threads or os.cpu_count() or 1)
        return
    ids = tokenizer.encode_iterable(text, allowed, frozenset())
    while len(block := np.fromiter(islice(ids, _BLOCK_IDS), np.uint32)):
        yield block


def lines_of_ids(blocks: Iterable[NDArray[np.uint32]]) -> Iterator[str]:
    """Numbers with spaces between them, in lines."""
    for block in blocks:
        numbers = list(map(str, block.tolist()))
        for start in range(0, len(numbers), _LINE_IDS):
            yield " ".join(numbers[start : start + _LINE_IDS]) + "\n"


def save_ids(blocks: Iterable[NDArray[np.uint32]], path: Path, vocabulary_size: int) -> int:
    """Write ids into a one-dimensional .npy, uint16 if the vocabulary allows it, else uint32; gives their number.

    The file takes its name when it is complete.
    """
    dtype = np.uint16 if vocabulary_size <= 1 << 16 else np.uint32
    with file_atomically(path) as temporary, ArrayWriter(temporary, dtype) as writer:
        for block in blocks:
            writer.append(block)
    return writer.length


def decode(tokenizer: AnyTokenizer, blocks: Iterable[NDArray[Any]]) -> Iterator[bytes]:
    """The bytes of ids."""
    if isinstance(tokenizer, Tokenizer):
        yield from map(tokenizer.decode_bytes, blocks)
        return
    for text in tokenizer.decode_stream(int(number) for block in blocks for number in block):
        yield text.encode()


def read_ids(name: str, on_bytes: OnBytes) -> Iterator[NDArray[Any]]:
    """Ids in blocks: of a one-dimensional .npy, mapped, or numbers between white space, also from `-`."""
    with opened(name) as file:
        if name == STANDARD_STREAM or file.read(len(_NPY_MAGIC)) != _NPY_MAGIC:
            if name != STANDARD_STREAM:
                file.seek(0)
            yield from _numbers(file, "standard input" if name == STANDARD_STREAM else name, on_bytes)
            return
    ids = _mapped(name)
    for start in range(0, len(ids), _BLOCK_IDS):
        block = ids[start : start + _BLOCK_IDS]
        yield block
        on_bytes(block.nbytes)


def _mapped(name: str) -> NDArray[Any]:
    try:
        ids = np.load(name, mmap_mode="r")
    except ValueError as error:
        raise UserError(f"{name} is a damaged .npy file ({error}); encode again") from None
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise UserError(f"{name} holds {ids.dtype} of shape {ids.shape}; give one row of integers")
    return ids


def _numbers(file: BinaryIO, name: str, on_bytes: OnBytes) -> Iterator[NDArray[np.int64]]:
    held = b""  # what may be the beginning of a number
    for chunk in chunks(file, on_bytes):
        words = (held + chunk).split()
        held = words.pop() if words and not chunk[-1:].isspace() else b""
        yield _parsed(words if len(held) <= _LONGEST_NUMBER else [held], name)
    yield _parsed([held] if held else [], name)


def _parsed(words: list[bytes], name: str) -> NDArray[np.int64]:
    try:
        return np.array([int(word) for word in words], dtype=np.int64)
    except (ValueError, OverflowError):
        bad = next(word for word in words if not word.isdigit() or len(word) > 18)
        shown = bad[:40].decode("utf-8", "backslashreplace")
        raise UserError(f"{name}: {shown!r} is not an id; give whole numbers, or a .npy file") from None
