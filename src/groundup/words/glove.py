"""Training of GloVe (Pennington, Socher and Manning 2014)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.seeds import derive
from groundup.words import native
from groundup.words.cooccurrence import RECORD
from groundup.words.matrices import Floats, stride_of, uniform
from groundup.words.settings import GloveSettings
from groundup.words.shares import Share, Tally, is_finished, pack, share_out, unpack, work_through

_PIECE = 20_000
_PARTS = ("vectors", "biases", "vector_squares", "bias_squares")


class Glove:
    """The weights and how far they are trained; `records` is a file of shuffled co-occurrences.

    Words and contexts each have vectors (V, stride), biases (V,) and AdaGrad's sums of squares, which begin at 1.
    """

    unit = "records"

    def __init__(self, settings: GloveSettings, num_words: int, records: Path) -> None:
        self.settings = settings
        self._records = np.memmap(records, RECORD, "r")
        self.total = settings.epochs * len(self._records)
        self.tally = Tally()
        self._shares = share_out(len(self._records), settings.threads, settings.seed)
        generator = np.random.default_rng(derive(settings.seed, "words, vectors"))
        self.words = self._side(num_words, generator)
        self.contexts = self._side(num_words, generator)

    def _side(self, num_words: int, generator: np.random.Generator) -> tuple[Floats, ...]:
        bound = 0.5 / (self.settings.dimension + 1)  # glove.c counts the bias as one more dimension
        vectors = uniform(num_words, self.settings.dimension, bound, generator)
        biases = generator.uniform(-bound, bound, num_words).astype(np.float32)
        return vectors, biases, np.ones_like(vectors), np.ones_like(biases)

    @property
    def vectors(self) -> Floats:
        """The word vectors: those of words and of contexts added up, (V, D)."""
        return (self.words[0] + self.contexts[0])[:, : self.settings.dimension]

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return is_finished(self._shares, self.settings.epochs)

    def train(self, should_stop: Callable[[], bool], on_progress: Callable[[Tally], None]) -> None:
        """Go on until the end or until `should_stop`; `on_progress` is called every few thousand records."""
        kernels, settings = native.kernels(), self.settings
        stride = stride_of(settings.dimension)

        def advance(share: Share) -> None:
            piece = self._records[share.position : min(share.position + _PIECE, share.end)]
            loss = kernels.glove(
                self.words, self.contexts, piece, stride, settings.lr, settings.most, settings.power
            )
            share.position += len(piece)
            self.tally.add(len(piece), loss, len(piece))
            on_progress(self.tally)

        work_through(self._shares, settings.epochs, advance, should_stop)

    def state(self) -> dict[str, NDArray[Any]]:
        """All that is needed to go on from here."""
        sides = {"words": self.words, "contexts": self.contexts}
        arrays = {
            f"{side}.{part}": array
            for side, parts in sides.items()
            for part, array in zip(_PARTS, parts, strict=True)
        }
        return {**arrays, "done": np.array([self.tally.done]), **pack(self._shares)}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from what `state` gave."""
        for name, array in self.state().items():
            if "." in name:
                array[:] = state[name]
        self.tally.done = int(state["done"][0])
        self._shares = unpack(state["shares"])
