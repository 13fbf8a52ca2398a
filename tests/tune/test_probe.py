from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

from groundup.errors import UserError
from groundup.tokenizer import Tokenizer
from groundup.tune import probe
from groundup.tune.features import text_vectors
from groundup.words.evaluation import Pairs

from .conftest import KITCHEN, SEA, MakeBody, MakeTexts


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_a_probe_tells_apart_what_the_features_do(
    family: str, make_body: MakeBody, make_texts: MakeTexts, make_rows, tokenizer: Tokenizer
) -> None:
    body, train, valid = make_body(family, width=64), make_texts(300, 1), make_texts(200, 2)
    before = {name: value.clone() for name, value in body.state_dict().items()}
    result = probe.probe_classification(body, tokenizer, train, valid)
    assert all(torch.equal(value, before[name]) for name, value in body.state_dict().items())
    assert (result.labels, result.train_examples, result.feature_width) == (["kitchen", "sea"], 300, 64)
    assert result.scores.accuracy > 0.9
    # Standardised by hand, the same.
    rows = (make_rows(count, seed, frame=body.frame) for count, seed in ((300, 1), (200, 2)))
    vectors, others = (text_vectors(body, part.values) for part in rows)
    mean, deviation = vectors.mean(0), vectors.std(0)
    theirs = LogisticRegression(max_iter=2000).fit((vectors - mean) / deviation, train.numbers(result.labels))
    expected = theirs.score((others - mean) / deviation, valid.numbers(result.labels))
    assert result.scores.accuracy == pytest.approx(expected, abs=0.006)


def test_labels_without_meaning_are_not_told_apart(
    make_body: MakeBody, make_texts: MakeTexts, tokenizer: Tokenizer
) -> None:
    result = probe.probe_classification(
        make_body(), tokenizer, make_texts(200, 1, wrong=1.0), make_texts(300, 2, wrong=1.0)
    )
    assert result.scores.accuracy_low < 0.5 < result.scores.accuracy_high


def test_similarity_is_the_rank_correlation_of_cosines(make_body: MakeBody, tokenizer: Tokenizer) -> None:
    body = make_body()
    words = list(combinations([*SEA, *KITCHEN], 2))[:40]
    scores = np.random.default_rng(0).random(40).tolist()
    cosines = []
    for pair in words:
        ids = [[tokenizer.end_of_text, *tokenizer.encode_ordinary(f" {word}")] for word in pair]
        with torch.no_grad():
            vectors = [body.text_features(torch.tensor([row]))[0, 1:].mean(0) for row in ids]
        cosines.append(float(torch.cosine_similarity(*vectors, dim=0)))
    figures = probe.probe_similarity(body, tokenizer, Pairs("mine", words, scores))
    assert figures["spearman"] == pytest.approx(spearmanr(cosines, scores).statistic, abs=1e-6)
    assert (figures["pairs"], figures["unknown"]) == (40, 0)


def test_without_scikit_learn_it_says_how_to_get_it(
    make_body: MakeBody, make_texts: MakeTexts, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.linear_model", None)
    with pytest.raises(UserError, match=r"pip install 'groundup\[probe\]'"):
        probe.probe_classification(make_body(), tokenizer, make_texts(10, 1), make_texts(10, 2))
