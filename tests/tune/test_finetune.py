import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score

from groundup.data.labelled import LabelledRows
from groundup.errors import UserError
from groundup.model.folder import load
from groundup.tokenizer import Tokenizer
from groundup.tune.features import text_vectors
from groundup.tune.finetune import FinetuneSettings, finetune, load_classifier, save_classifier

from .conftest import MakeBody, MakeTexts

MakeRows = Callable[..., LabelledRows]
QUICK = FinetuneSettings(epochs=2, lr=3e-3, dropout=0.1)
PARTS = ("embedding.", "positions.", "blocks.0.", "blocks.1.", "norm.")


@pytest.mark.parametrize(
    ("mode", "frozen"), [("none", 0), ("embeddings", 2), ("first:1", 3), ("first:2", 4), ("all", 5)]
)
def test_what_is_frozen_stays_bit_for_bit_and_the_rest_moves(
    mode: str, frozen: int, make_body: MakeBody, make_rows: MakeRows
) -> None:
    body = make_body()
    before = {name: value.clone() for name, value in body.state_dict().items()}
    result = finetune(body, make_rows(96, 1), make_rows(40, 2), 2, mode, QUICK)
    moved = 0
    for name, value in body.state_dict().items():
        stays = name.startswith(PARTS[:frozen])
        # A key's bias adds the same to all scores of a query, and the softmax does not see it.
        assert torch.equal(value, before[name]) == stays or name.endswith("key.bias"), name
        moved += 0 if stays else value.numel()
    assert result.classifier.body is body
    assert result.trained_parameters == moved + 2 * 16 + 2  # what the optimizer has a state of
    assert not result.classifier.training


# What a frozen model makes of words was drawn at random, and a line through it cannot be as good.
@pytest.mark.parametrize(("mode", "least"), [("none", 0.95), ("all", 0.8)])
def test_it_learns_what_can_be_told_apart(
    mode: str, least: float, make_body: MakeBody, make_rows: MakeRows
) -> None:
    count = 6 if mode == "none" else 20
    settings = FinetuneSettings(epochs=count, lr=1e-2 if mode == "none" else 3e-2)
    result = finetune(make_body(width=32), make_rows(256, 1), make_rows(200, 2), 2, mode, settings)
    assert result.scores.accuracy > least
    assert result.scores.majority < 0.6
    assert [epoch.number for epoch in result.history] == list(range(1, count + 1))
    assert result.history[-1].loss < result.history[0].loss
    assert result.history[-1].valid_accuracy == result.scores.accuracy


def test_frozen_all_is_logistic_regression(make_body: MakeBody, make_rows: MakeRows) -> None:
    """Without regularisation, where labels are noisy, both look for the one minimum of a convex loss."""
    train, valid = make_rows(300, 1, wrong=0.5), make_rows(64, 2, wrong=0.5)
    body = make_body(width=8)
    vectors = text_vectors(body, train.values)
    scale = float(vectors.std())
    body.norm.weight.data /= scale
    body.norm.bias.data /= scale
    theirs = LogisticRegression(C=np.inf, tol=1e-8, max_iter=5000).fit(
        text_vectors(body, train.values), train.labels
    )
    settings = FinetuneSettings(epochs=300, lr=0.5, batch_size=300, weight_decay=0.0, dropout=0.0)
    result = finetune(body, train, valid, 2, "all", settings)
    with torch.no_grad():
        logits = result.classifier(torch.from_numpy(valid.values.astype(np.int64)))
    chances = torch.softmax(logits, 1).numpy()
    expected = theirs.predict_proba(text_vectors(body, valid.values))
    assert expected.std() > 0.1  # it has something to say
    np.testing.assert_allclose(chances, expected, atol=5e-3)
    accuracy = accuracy_score(valid.labels, theirs.predict(text_vectors(body, valid.values)))
    assert abs(result.scores.accuracy - accuracy) <= 1 / 64


def test_cached_vectors_train_the_same_head(make_body: MakeBody, make_rows: MakeRows) -> None:
    """As the whole classifier with every part frozen by hand, which computes them anew in each step."""
    train, valid = make_rows(96, 1), make_rows(40, 2)
    cached = finetune(make_body(), train, valid, 2, "all", QUICK)
    by_hand = make_body()
    by_hand.requires_grad_(False)
    anew = finetune(by_hand, train, valid, 2, "none", QUICK)
    for one, other in zip(cached.classifier.head.parameters(), anew.classifier.head.parameters(), strict=True):
        assert one.abs().max() > 1e-3
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    for one, other in zip(cached.history, anew.history, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-5)
        assert one.valid_loss == pytest.approx(other.valid_loss, abs=1e-5)


def test_the_same_seed_gives_the_same_classifier(make_body: MakeBody, make_rows: MakeRows) -> None:
    runs = [
        finetune(make_body(), make_rows(64, 1), make_rows(20, 2), 2, "none", replace(QUICK, seed=seed))
        for seed in (1, 1, 2)
    ]
    heads = [run.classifier.head[1].weight for run in runs]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_patience_ends_it_and_keeps_the_best_epoch(make_body: MakeBody, make_rows: MakeRows) -> None:
    train, valid = make_rows(64, 1, wrong=0.4), make_rows(60, 2)
    result = finetune(make_body(), train, valid, 2, "none", replace(QUICK, epochs=40, lr=2e-2, patience=3))
    accuracies = [epoch.valid_accuracy for epoch in result.history]
    best = accuracies.index(max(accuracies))
    assert len(accuracies) == best + 1 + 3 < 40
    assert result.scores.accuracy == accuracies[best]


def test_a_signal_ends_it_with_what_was_learnt(make_body: MakeBody, make_rows: MakeRows) -> None:
    def interrupt(share: float, history: object) -> None:
        if share >= 0.5:
            os.kill(os.getpid(), signal.SIGINT)

    train, valid = make_rows(64, 1), make_rows(20, 2)
    result = finetune(make_body(), train, valid, 2, "none", replace(QUICK, epochs=4), interrupt)
    assert result.signal == signal.SIGINT
    assert len(result.history) == 2
    assert result.classifier.head[1].weight.any()


def test_what_is_saved_is_loaded(
    make_body: MakeBody, make_rows: MakeRows, make_texts: MakeTexts, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    settings = FinetuneSettings(epochs=4, lr=1e-2, pooling="last")
    result = finetune(make_body(), make_rows(256, 1), make_rows(100, 2), 2, "none", settings)
    save_classifier(tmp_path / "made", result.classifier, tokenizer, ["kitchen", "sea"])
    loaded = load_classifier(tmp_path / "made")
    texts = make_texts(100, 2)
    answers = loaded.classify(texts.texts)
    assert np.mean(
        [answer == label for answer, label in zip(answers, texts.labels, strict=True)]
    ) == pytest.approx(result.scores.accuracy)
    for name, value in result.classifier.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value), name
    assert load(tmp_path / "made").model.shape == result.classifier.shape  # an ordinary model folder too


def test_a_folder_that_is_no_classifier(
    make_body: MakeBody, make_rows: MakeRows, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"holds no classifier \(no classifier\.json\)"):
        load_classifier(tmp_path)
    result = finetune(make_body(), make_rows(32, 1), make_rows(20, 2), 2, "all", QUICK)
    save_classifier(tmp_path / "made", result.classifier, tokenizer, ["kitchen", "sea"])
    about = json.loads((tmp_path / "made" / "classifier.json").read_text())
    (tmp_path / "made" / "classifier.json").write_text(json.dumps(about | {"labels": ["a", "b", "c"]}))
    with pytest.raises(UserError, match="the classifier is damaged"):
        load_classifier(tmp_path / "made")
