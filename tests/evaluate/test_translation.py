import builtins
import math
from collections import Counter
from typing import Any

import pytest

from groundup.errors import UserError
from groundup.evaluate.translation import score

REFERENCES = ["the cat sat on the mat", "there is a dog in the garden today", "it rains a lot in winter here"]
HYPOTHESES = ["the cat sat on a mat", "there is a dog in the garden", "it rains very much in winter here now"]


def _counts(items: Any, order: int) -> Counter[Any]:
    return Counter(items[start : start + order] for start in range(len(items) - order + 1))


def _bleu() -> float:
    """Papineni et al. 2002, of words, over the corpus."""
    logs = 0.0
    for order in range(1, 5):
        hits = total = 0
        for hypothesis, reference in zip(HYPOTHESES, REFERENCES, strict=True):
            said, meant = (_counts(tuple(text.split()), order) for text in (hypothesis, reference))
            hits, total = hits + sum((said & meant).values()), total + sum(said.values())
        logs += math.log(hits / total) / 4
    lengths = [sum(len(text.split()) for text in texts) for texts in (HYPOTHESES, REFERENCES)]
    return 100 * math.exp(logs + min(0.0, 1 - lengths[1] / lengths[0]))


def _chrf() -> float:
    """Popović 2015: F with beta 2 of the mean precision and recall of 1..6 characters, spaces left out."""
    precision = recall = 0.0
    for order in range(1, 7):
        hits = said_total = meant_total = 0
        for hypothesis, reference in zip(HYPOTHESES, REFERENCES, strict=True):
            said, meant = (_counts(text.replace(" ", ""), order) for text in (hypothesis, reference))
            hits += sum((said & meant).values())
            said_total, meant_total = said_total + sum(said.values()), meant_total + sum(meant.values())
        precision, recall = precision + hits / said_total / 6, recall + hits / meant_total / 6
    return 100 * 5 * precision * recall / (4 * precision + recall)


def test_figures_are_those_of_the_formulas() -> None:
    found = score(HYPOTHESES, REFERENCES)
    assert found["bleu"] == pytest.approx(_bleu(), abs=1e-6)
    assert found["chrf"] == pytest.approx(_chrf(), abs=1e-6)
    assert 20 < _bleu() < 80


def test_signatures_say_how_it_was_measured() -> None:
    found = score(HYPOTHESES, REFERENCES)
    assert "tok:13a" in str(found["bleu_signature"])
    assert "version:" in str(found["bleu_signature"])
    assert "nc:6" in str(found["chrf_signature"])


def test_a_perfect_translation_has_100() -> None:
    found = score(REFERENCES, REFERENCES)
    assert (found["bleu"], found["chrf"]) == (pytest.approx(100), pytest.approx(100))


def test_chinese_is_cut_into_characters() -> None:
    """As words, a sentence without spaces would be one that is right or wrong as a whole."""
    found = score(["我今天早上去了学校。"], ["我今天晚上去了学校。"])
    assert "tok:zh" in str(found["bleu_signature"])
    assert float(found["bleu"]) > 40


def test_nothing_cannot_be_measured() -> None:
    with pytest.raises(UserError, match="no translations to compare"):
        score([], [])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *others: Any, **named: Any) -> Any:
        if name.startswith("sacrebleu"):
            raise ImportError(name)
        return real(name, *others, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'groundup\[translation\]'"):
        score(REFERENCES, REFERENCES)
