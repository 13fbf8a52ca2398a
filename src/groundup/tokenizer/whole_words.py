"""Which tokens begin a word, so that the pieces of a word can be taken together."""

import string

import numpy as np
from numpy.typing import NDArray

from groundup.tokenizer.tokenizer import Tokenizer

_LETTERS = frozenset(string.ascii_letters.encode())
# First bytes of letters with accents, of Greek, Cyrillic, Hebrew and Arabic, and the bytes inside of characters.
_INSIDE = frozenset(range(0x80, 0xE0))


def starts_word(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """Whether each id begins a word, (V,) bool.

    A token that begins with a letter goes on with the word before it: where a word begins, its token has the
    space. Scripts without spaces, such as Chinese, have words of one token. Special tokens stand alone.
    """
    special = set(tokenizer.special_tokens.values())
    starts_V = np.ones(tokenizer.vocabulary_size, np.bool_)
    for id in np.flatnonzero(tokenizer.byte_lengths):
        if id not in special:
            first = tokenizer.token_bytes(int(id))[0]
            starts_V[id] = first not in _LETTERS and first not in _INSIDE
    return starts_V
