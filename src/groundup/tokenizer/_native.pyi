"""The C++ part of the tokenizer (`native/module.cpp`). Buffers are read or written in place.

Ids, merges and ends of pieces are uint32; offsets and counts are uint64. A pattern is its number in
`native.PATTERNS`. Text is shorter than 4 GiB. The interpreter's lock is released while text is worked on.
"""

from collections.abc import Callable
from typing import NewType

from typing_extensions import Buffer

Encoder = NewType("Encoder", object)
Counts = NewType("Counts", object)

def set_classes(runs: Buffer) -> None:
    """Tell the classes of all code points: `unicode.packed_runs()`."""

def use(instructions: str) -> str:
    """Choose `portable`, `avx2` or `avx512`, "" for the best; returns the choice, "" if the processor lacks it."""

def new_encoder(text: bytes, offsets: Buffer, ids: Buffer, merges: Buffer, whole_pieces: bool) -> Encoder:
    """Tables of tokens (the 256 bytes first), their ids, and merges: indices of left, right and merged token."""

def recover_merges(text: bytes, offsets: Buffer, merges: Buffer) -> None:
    """Of tokens in order of rank, the bytes first: write the indices of both parts of the others, -1 if none."""

def encode(encoder: Encoder, pattern: int, text: Buffer, ids: Buffer) -> int:
    """Cut and encode; `ids` has room for one a byte. Returns how many there are."""

def encode_given(encoder: Encoder, text: Buffer, ends: Buffer, ids: Buffer) -> int:
    """Encode pieces that end at `ends`."""

def split(pattern: int, text: Buffer, ends: Buffer) -> int:
    """Write the ends of the pieces; there is room for one a byte. Returns how many there are."""

def decode(text: bytes, offsets: Buffer, ids: Buffer) -> bytes:
    """Join tokens; `text` has 16 bytes after the last. KeyError for an id without bytes."""

def decode_list(text: bytes, offsets: Buffer, ids: list[int]) -> bytes:
    """The same for a list."""

def new_counts() -> Counts:
    """Counts of pieces, for one thread at a time."""

def count(counts: Counts, pattern: int, text: Buffer) -> None:
    """Cut text and count its pieces."""

def count_given(counts: Counts, text: Buffer, ends: Buffer) -> None:
    """Count pieces that end at `ends`."""

def merge_counts(into: Counts, taken: Counts) -> None:
    """Add the counts of `taken`, which is emptied."""

def take_pieces(counts: Counts) -> tuple[bytes, bytes, bytes]:
    """Pieces of two bytes or more: their bytes, offsets and counts; `counts` is emptied."""

def train(
    text: bytes,
    offsets: bytes,
    counts: bytes,
    id_of_byte: bytes,
    num_merges: int,
    min_frequency: int,
    ties: int,
    progress: Callable[[float], None] | None,
) -> bytes:
    """Merges as pairs of ids, 0..255 the bytes by `id_of_byte`; `ties` is a number in `native.TIES`."""
