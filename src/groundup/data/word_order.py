"""A task that any text gives: to tell a passage from the same words in another order.

Who knows only which words there are answers at chance; what a model knows of their order is what is above it.
"""

import re
from collections.abc import Sequence

import numpy as np

from groundup.data.labelled import LabelledTexts
from groundup.data.sources import read
from groundup.errors import UserError

# Words, or where a script has no spaces, characters.
_UNSPACED = r"\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef"
_UNITS = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_SPACED = re.compile(rf"[^{_UNSPACED}]")
_LENGTH = 24
_READ_BYTES = 4 << 20


def word_order(
    sources: Sequence[str], count: int, seed: int, *, field: str = "text", length: int = _LENGTH
) -> LabelledTexts:
    """`count` passages of `length` words from the beginning of the sources: half `shuffled`, half as `written`.

    UserError if there is too little text.
    """
    generator = np.random.default_rng(seed)
    passages = _passages(sources, field, length)
    if len(passages) < count:
        raise UserError(
            f"{', '.join(sources)}: {len(passages)} passages of {length} words, not {count}; give more text"
        )
    texts, labels = [], []
    for number, place in enumerate(generator.permutation(len(passages))[:count]):
        units = passages[place]
        if number % 2:
            units = [units[other] for other in generator.permutation(len(units))]
        texts.append("".join(units))
        labels.append("shuffled" if number % 2 else "written")
    return LabelledTexts(tuple(texts), tuple(labels))


def _passages(sources: Sequence[str], field: str, length: int) -> list[list[str]]:
    """Stretches next to each other, none across a document's end."""
    passages: list[list[str]] = []
    num_bytes = 0
    for part in read(sources, field=field, split="none"):
        # Every word is followed by a space, or its place would tell of it.
        units = [
            f"{unit} " if _SPACED.match(unit) else unit
            for unit in _UNITS.findall(part.data.decode("utf-8", "replace"))
        ]
        passages += [units[first : first + length] for first in range(0, len(units) - length + 1, length)]
        num_bytes += len(part.data)
        if num_bytes > _READ_BYTES:
            break
    return passages
