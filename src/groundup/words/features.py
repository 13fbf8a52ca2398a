"""Texts as the mean of their words' vectors."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from groundup.words.text import splitter
from groundup.words.vectors import WordVectors


def mean_vectors(vectors: WordVectors, texts: Sequence[str]) -> NDArray[np.float32]:
    """The mean over the words that have a vector, (N, D); zeros for a text that has none of them."""
    words_of = splitter("words", lower=True)
    means = np.zeros((len(texts), vectors.vectors.shape[1]), np.float32)
    for row, text in enumerate(texts):
        places = [place for word in words_of(text) if (place := vectors.find(word)) is not None]
        if places:
            means[row] = vectors.vectors[places].mean(0)
    return means
