"""Kinds of characters: scripts, digits, punctuation, white space."""

from functools import lru_cache

import numpy as np
import regex
from numpy.typing import NDArray

KINDS = (
    ("Latin letters", r"\p{Latin}"),
    ("Chinese characters", r"\p{Han}"),
    ("Japanese kana", r"[\p{Hiragana}\p{Katakana}]"),
    ("Korean letters", r"\p{Hangul}"),
    ("Cyrillic letters", r"\p{Cyrillic}"),
    ("Greek letters", r"\p{Greek}"),
    ("Arabic letters", r"\p{Arabic}"),
    ("Thai, Lao, Khmer and Burmese letters", r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"),
    ("other letters", r"[\p{L}\p{M}]"),
    ("digits", r"\p{N}"),
    ("punctuation and symbols", r"[\p{P}\p{S}]"),
    ("white space and control characters", r"[\s\p{C}]"),
)
"""Names and regular expressions: a character is of the first kind that matches it."""

WHITE_SPACE = len(KINDS) - 1
"""The place of white space in `KINDS`."""

INVALID = len(KINDS)
"""Stands for a byte that is not UTF-8, which `surrogateescape` decodes to U+DC80..U+DCFF."""

_NUM_CODE_POINTS = 0x110000
_UNSPACED = ("Chinese", "Japanese", "Thai")


@lru_cache(maxsize=1)
def kind_table() -> NDArray[np.uint8]:
    """The kind of every code point, uint8 (1114112,): its place in `KINDS`, or INVALID."""
    characters = "".join(map(chr, range(_NUM_CODE_POINTS)))
    table = np.full(_NUM_CODE_POINTS, WHITE_SPACE, dtype=np.uint8)
    for kind, (_, pattern) in reversed(list(enumerate(KINDS))):
        for match in regex.finditer(f"(?:{pattern})+", characters):
            table[match.start() : match.end()] = kind
    table[0xDC80:0xDD00] = INVALID
    table.flags.writeable = False
    return table


def in_words() -> NDArray[np.bool_]:
    """Whether characters of a kind make up words that are written apart, bool (len(KINDS) + 1,)."""
    kinds = [name.endswith("letters") and not name.startswith(_UNSPACED) for name, _ in KINDS]
    return np.array([*kinds, False])
