"""Probes: what a model has learnt of text by itself, measured without changing it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from groundup.data.labelled import LabelledTexts, encode_texts
from groundup.errors import UserError
from groundup.evaluate.classification import ClassificationScores, classification_scores
from groundup.model.base import TextModel
from groundup.tokenizer.load import AnyTokenizer
from groundup.tune.features import text_vectors
from groundup.words.evaluation import Pairs, similarity
from groundup.words.vectors import WordVectors

_MOST_STEPS = 2000


@dataclass(frozen=True)
class ProbeResult:
    """The figures of a linear classifier on a frozen model's vectors, and what it learnt from."""

    scores: ClassificationScores
    labels: list[str]
    train_examples: int
    feature_width: int
    seconds: float


def probe_classification(
    model: TextModel,
    tokenizer: AnyTokenizer,
    train: LabelledTexts,
    valid: LabelledTexts,
    on_progress: Callable[[float], None] | None = None,
) -> ProbeResult:
    """Logistic regression on the mean of what the model makes of a text's tokens.

    Each of the vector's numbers is first scaled to unit variance, so that the regularisation (C = 1) means the
    same for every model. Texts longer than the model's context are cut off.

    Raises:
        UserError: scikit-learn is not installed, or `valid` has a label that `train` has not.
    """
    require_probes()
    started = time.monotonic()
    ids_NT = encode_texts(train.texts + valid.texts, tokenizer, model.shape.context, model.frame)
    vectors_NE = text_vectors(model, ids_NT, on_progress=on_progress)
    return ProbeResult(
        scores=probe_vectors(vectors_NE[: len(train)], train, vectors_NE[len(train) :], valid),
        labels=train.names,
        train_examples=len(train),
        feature_width=model.feature_width,
        seconds=time.monotonic() - started,
    )


def require_probes() -> None:
    """UserError, before any time is spent, where scikit-learn is not installed."""
    _logistic_regression()


def probe_vectors(
    train_NE: npt.NDArray[np.float32],
    train: LabelledTexts,
    valid_NE: npt.NDArray[np.float32],
    valid: LabelledTexts,
) -> ClassificationScores:
    """The same on vectors of the texts from anywhere."""
    names = train.names
    classifier = _logistic_regression()().fit(train_NE, train.numbers(names))
    return classification_scores(valid.numbers(names), classifier.predict(valid_NE), len(names))


def probe_similarity(model: TextModel, tokenizer: AnyTokenizer, pairs: Pairs) -> dict[str, Any]:
    """Spearman's correlation of people's scores with the cosines of what the model makes of single words.

    The same figures as of word vectors: `spearman`, `pairs`, `unknown` (here always 0).
    """
    words = sorted({word for pair in pairs.words for word in pair})
    return similarity(WordVectors(words, word_vectors(model, tokenizer, words)), pairs)


def word_vectors(model: TextModel, tokenizer: AnyTokenizer, words: Sequence[str]) -> npt.NDArray[np.float32]:
    """The vector of each word on its own, (N, E).

    It stands behind a space, as within a sentence, unless it takes more tokens so, as in languages without spaces.
    """
    spelt = [min((f" {word}", word), key=lambda text: len(tokenizer.encode_array(text))) for word in words]
    return text_vectors(model, encode_texts(spelt, tokenizer, model.shape.context, model.frame))


def _logistic_regression() -> Callable[[], Any]:
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise UserError("a probe needs scikit-learn; install it: pip install 'groundup[probe]'") from None
    return lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=_MOST_STEPS))
