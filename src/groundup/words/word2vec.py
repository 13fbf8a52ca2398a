"""Training of word2vec: skip-gram and CBOW (Mikolov and others 2013)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.seeds import derive
from groundup.words import native
from groundup.words.matrices import Floats, stride_of, uniform, zeros
from groundup.words.sampling import Noise, Tree, in_32_bits, keep_probabilities
from groundup.words.settings import Word2VecSettings
from groundup.words.shares import Share, Tally, is_finished, pack, share_out, unpack, work_through
from groundup.words.vocabulary import Vocabulary

_PIECE = 10_000
"""Words between two changes of the learning rate, as in word2vec.c."""


class Word2Vec:
    """The weights and how far they are trained; `ids` is the text, -1 behind each document.

    `inputs` (V, stride) hold the word vectors in their first `dimension` columns, `outputs` those that predict.
    """

    unit = "words"

    def __init__(self, settings: Word2VecSettings, vocabulary: Vocabulary, ids: NDArray[np.int32]) -> None:
        self.settings, self.ids = settings, ids
        self.total = settings.epochs * vocabulary.num_tokens
        self.tally = Tally()
        self._shares = share_out(len(ids), settings.threads, settings.seed)
        size, dimension = len(vocabulary), settings.dimension
        generator = np.random.default_rng(derive(settings.seed, "words, vectors"))
        self.inputs = uniform(size, dimension, 0.5 / dimension, generator)
        self.outputs = zeros(size, dimension)
        self._model = self._arguments(vocabulary.counts)

    def _arguments(self, counts: NDArray[np.int64]) -> tuple[Any, ...]:
        settings = self.settings
        tree = settings.hierarchical_softmax
        keep = (
            in_32_bits(keep_probabilities(counts, settings.sample)) if settings.sample else np.empty(0, np.uint32)
        )
        empty = np.empty(0, np.uint32)
        paths = Tree.of(counts) if tree else None
        noise = Noise(empty, empty) if tree else Noise.of(counts, settings.noise_power)
        return (
            self.inputs, self.outputs, stride_of(settings.dimension), tree, settings.model == "cbow",
            settings.cbow_mean, settings.window, settings.negative, keep, noise.threshold, noise.alias,
            *((paths.offsets, paths.nodes, paths.labels) if paths else (empty, empty, empty)),
        )  # fmt: skip

    @property
    def vectors(self) -> Floats:
        """The word vectors, (V, D)."""
        return self.inputs[:, : self.settings.dimension]

    @property
    def lr(self) -> float:
        """The learning rate now: it falls with the words seen, to a ten-thousandth at least."""
        return self.settings.first_lr * max(1 - self.tally.done / (self.total + 1), 1e-4)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return is_finished(self._shares, self.settings.epochs)

    def train(self, should_stop: Callable[[], bool], on_progress: Callable[[Tally], None]) -> None:
        """Go on until the end or until `should_stop`; `on_progress` is called every few thousand words."""
        kernels = native.kernels()

        def advance(share: Share) -> None:
            share.position, words, loss, measured = kernels.train(
                self._model, self.ids, share.position, share.end, _PIECE, self.lr, share.random
            )
            self.tally.add(words, loss, measured)
            on_progress(self.tally)

        work_through(self._shares, self.settings.epochs, advance, should_stop)

    def state(self) -> dict[str, NDArray[Any]]:
        """All that is needed to go on from here."""
        return {
            "inputs": self.inputs,
            "outputs": self.outputs,
            "done": np.array([self.tally.done]),
            **pack(self._shares),
        }

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from what `state` gave."""
        self.inputs[:], self.outputs[:] = state["inputs"], state["outputs"]
        self.tally.done = int(state["done"][0])
        self._shares = unpack(state["shares"])

    def learn(self, words: NDArray[np.int32], rows: NDArray[np.int32], labels: Floats, lr: float) -> float:
        """One prediction from `words` of what `rows` of the outputs answer, 1 or 0; its loss."""
        return float(native.kernels().learn(self._model, words, rows, labels, lr))
