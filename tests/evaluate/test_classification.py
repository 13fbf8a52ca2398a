import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from groundup.evaluate.classification import classification_scores, wilson_interval

Answers = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=50)


@given(pairs=Answers)
def test_figures_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    true, answered = (np.array(column) for column in zip(*pairs, strict=True))
    scores = classification_scores(true, answered, 4)
    assert scores.accuracy == pytest.approx(accuracy_score(true, answered))
    assert scores.f1_macro == pytest.approx(f1_score(true, answered, average="macro"))
    assert scores.confusion == confusion_matrix(true, answered, labels=range(4)).tolist()
    assert scores.majority == pytest.approx(np.bincount(true).max() / len(true))
    assert scores.examples == len(pairs)


@given(trials=st.integers(1, 3000), share=st.floats(0, 1))
def test_the_interval_is_that_of_scipy(trials: int, share: float) -> None:
    successes = round(share * trials)
    theirs = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
