"""Ids to bytes: the text of every token in one row, and where each begins."""

from collections.abc import Iterable
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.errors import UserError
from groundup.tokenizer import native
from groundup.tokenizer.definition import Definition

_PADDING = bytes(16)  # the C++ copies 16 bytes at a time
_MOST_IDS = 1 << 23  # a table of offsets larger than that would be mostly empty


class Decoder:
    """The bytes of ids; a special token is its text."""

    def __init__(self, definition: Definition) -> None:
        tokens = [
            *definition.ids.items(),
            *((name.encode(), at) for name, at in definition.special_tokens.items()),
        ]
        tokens.sort(key=itemgetter(1))
        self.vocabulary_size = tokens[-1][1] + 1
        self._native: Any = native.module if self.vocabulary_size <= _MOST_IDS else None
        if not self._native:
            self._tokens = {number: token for token, number in tokens}
            return
        lengths = np.zeros(self.vocabulary_size + 1, np.uint64)
        lengths[[number + 1 for _, number in tokens]] = [len(token) for token, _ in tokens]
        self._offsets = np.cumsum(lengths, dtype=np.uint64)
        self._text = b"".join(token for token, _ in tokens) + _PADDING

    def token(self, number: int) -> bytes:
        """The bytes of one token; UserError for an unknown id."""
        return self.bytes([number])

    def bytes(self, ids: Iterable[int] | NDArray[np.integer]) -> bytes:
        """The bytes of ids, one after the other; UserError for an unknown id."""
        try:
            if not self._native:
                numbers = ids.tolist() if isinstance(ids, np.ndarray) else ids
                return b"".join(map(self._tokens.__getitem__, numbers))
            if isinstance(ids, np.ndarray):
                return self._native.decode(self._text, self._offsets, self._checked(ids))
            return self._native.decode_list(self._text, self._offsets, ids if isinstance(ids, list) else list(ids))
        except KeyError as error:
            raise self._unknown(error.args[0]) from None

    def _checked(self, ids: NDArray[np.integer]) -> NDArray[np.uint32]:
        if ids.dtype != np.uint32:
            if ids.dtype.kind not in "iu" and ids.size:
                raise UserError(f"ids have the type {ids.dtype}; give whole numbers")
            outside = (ids < 0) | (ids >= self.vocabulary_size)
            if outside.any():
                raise KeyError(int(ids[outside][0]))
        return np.ascontiguousarray(ids, np.uint32)

    def _unknown(self, number: object) -> UserError:
        return UserError(f"id {number} is not in the vocabulary; give ids from 0 to {self.vocabulary_size - 1}")
