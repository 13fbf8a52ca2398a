"""Files of word vectors: word2vec's text and binary formats, which gensim and others read; GloVe's text too."""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from groundup.errors import UserError
from groundup.files import file_atomically
from groundup.words.vectors import WordVectors

_BINARY = ".bin"
_LONGEST_WORD = 4096  # bytes; without such a bound a damaged file would be searched to its end


def write(vectors: WordVectors, path: Path) -> None:
    """Write word2vec's binary format where the name ends with .bin, else its text format, exact to the last bit.

    Raises:
        UserError: a word holds white space, which neither format can say.
    """
    for word in vectors.words:
        if word.split() != [word]:
            raise UserError(f"{path}: the word {word!r} holds white space, which word2vec's formats cannot write")
    with file_atomically(path) as temporary, temporary.open("wb") as file:
        file.write(f"{len(vectors.words)} {vectors.vectors.shape[1]}\n".encode())
        for word, vector in zip(vectors.words, vectors.vectors, strict=True):
            if path.suffix == _BINARY:
                file.write(word.encode() + b" " + vector.astype("<f4").tobytes() + b"\n")
            else:
                file.write(f"{word} {' '.join(f'{value:.9g}' for value in vector.tolist())}\n".encode())


def read(path: Path) -> WordVectors:
    """Read a file of word vectors, binary where its name ends with .bin, else text with or without a first line.

    Raises:
        UserError: the file is missing or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file of word vectors; `groundup words train` makes them")
    with path.open("rb") as file:
        vectors = _read_binary(file, path) if path.suffix == _BINARY else _read_text(file, path)
    if not np.isfinite(vectors.vectors).all():
        raise UserError(f"{path} is damaged: it holds numbers that are not finite; write it again")
    return vectors


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path} is damaged or no file of word vectors: {what}; write it again")


def _sizes(line: bytes) -> tuple[int, int] | None:
    """Words and dimensions, where a first line says them."""
    fields = line.split()
    if len(fields) == 2 and all(field.isdigit() and int(field) > 0 for field in fields):
        return int(fields[0]), int(fields[1])
    return None


def _read_binary(file: BinaryIO, path: Path) -> WordVectors:
    sizes = _sizes(file.readline(100))
    if sizes is None:
        raise _damaged(path, "its first line does not say how many words and dimensions it has")
    (num_words, dimension), start = sizes, file.tell()
    size = path.stat().st_size - start
    if size < num_words * (4 * dimension + 2):
        raise _damaged(path, f"{size:,} bytes are too few for {num_words:,} words of {dimension:,} dimensions")
    words: list[str] = []
    matrix = np.empty((num_words, dimension), np.float32)
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for row in matrix:
            space = content.find(b" ", start, start + _LONGEST_WORD)
            end = space + 1 + 4 * dimension
            if space < 0 or end > len(content):
                raise _damaged(path, f"it ends, or is no longer readable, behind word {len(words):,}")
            words.append(content[start:space].lstrip(b"\n").decode("utf-8", "replace"))
            row[:] = np.frombuffer(content[space + 1 : end], "<f4")
            start = end
    return WordVectors(words, matrix)


def _read_text(file: BinaryIO, path: Path) -> WordVectors:
    first = file.readline()
    sizes = _sizes(first)
    if sizes is None:  # GloVe's files begin with the first word
        file.seek(0)
    dimension = sizes[1] if sizes else len(first.split()) - 1
    if dimension < 1:
        raise _damaged(path, "its first line is neither sizes nor a word with numbers")
    words: list[str] = []
    rows = []
    for number, line in enumerate(_lines(file), 2 if sizes else 1):
        word, *values = line.rstrip().rsplit(" ", dimension)
        try:
            rows.append(np.array([float(value) for value in values], np.float32))
        except ValueError:
            raise _damaged(path, f"line {number:,} does not hold {dimension:,} numbers") from None
        if len(values) != dimension:
            raise _damaged(path, f"line {number:,} holds {len(values):,} numbers in place of {dimension:,}")
        words.append(word)
    if sizes and sizes[0] != len(words):
        raise _damaged(path, f"it holds {len(words):,} words in place of {sizes[0]:,}")
    return WordVectors(words, np.array(rows, np.float32))


def _lines(file: BinaryIO) -> Iterator[str]:
    for line in file:
        if text := line.decode("utf-8", "replace").rstrip("\r\n"):
            yield text
