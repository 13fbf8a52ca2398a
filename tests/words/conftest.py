"""What the tests of word vectors share: both ways to compute, a small text as ids, and weights to begin with."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from groundup.words import native, plain
from groundup.words.settings import Word2VecSettings
from groundup.words.vocabulary import Vocabulary
from groundup.words.word2vec import Word2Vec

Ids = NDArray[np.int32]


@pytest.fixture(params=["compiled", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The compiled code, or plain Python."""
    monkeypatch.setenv("GROUNDUP_WORDS", "plain" if request.param == "plain" else "")
    if request.param == "compiled" and native.kernels() is plain:
        pytest.skip("groundup was installed without a C++ compiler")
    return str(request.param)


@pytest.fixture
def zipf() -> tuple[Vocabulary, Ids]:
    """Forty documents of fifty words, frequent and rare ones, out of thirty."""
    generator = np.random.default_rng(5)
    shares = 1 / np.arange(1, 31)
    text = generator.choice(30, (40, 50), p=shares / shares.sum())
    counts = np.bincount(text.ravel(), minlength=30)
    order = np.argsort(-counts, kind="stable")
    ids = np.argsort(order)[text]
    vocabulary = Vocabulary([f"w{place}" for place in range(30)], counts[order])
    return vocabulary, np.column_stack([ids, np.full(40, -1)]).ravel().astype(np.int32)


def never() -> bool:
    return False


def quiet(_: object) -> None:
    pass


Make = Callable[..., Word2Vec]


@pytest.fixture
def make(zipf: tuple[Vocabulary, Ids]) -> Make:
    """A model over the small text, with weights that are not zero, so that every formula shows."""

    def build(**settings: object) -> Word2Vec:
        vocabulary, ids = zipf
        chosen = Word2VecSettings.model_validate({"dimension": 20, "epochs": 1, **settings})
        model = Word2Vec(chosen, vocabulary, ids)
        generator = np.random.default_rng(1)
        for matrix in (model.inputs, model.outputs):
            matrix[:, :20] = generator.normal(0, 0.4, (30, 20))
        return model

    return build
