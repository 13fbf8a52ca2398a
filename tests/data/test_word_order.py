from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from groundup.data.word_order import word_order
from groundup.errors import UserError

WORDS = ("plain", "café", "слово", "don’t", "naïve,", "한국어", "end.")


@pytest.fixture
def source(tmp_path: Path) -> str:
    """Words in alphabets of all kinds, some before the end of a line, one at the end of all."""
    drawn = np.random.default_rng(1).choice(WORDS, 200).tolist()
    path = tmp_path / "text.txt"
    path.write_text("\n".join(" ".join(drawn[first : first + 7]) for first in range(0, 200, 7)), "utf-8")
    return str(path)


def test_half_are_the_same_words_in_another_order(source: str) -> None:
    written = " ".join(Path(source).read_text("utf-8").split()) + " "
    passages = word_order([source], 8, 1)
    assert Counter(passages.labels) == {"written": 4, "shuffled": 4}
    for text, label in zip(passages.texts, passages.labels, strict=True):
        assert len(text.split()) == 24
        assert (text in written) == (label == "written")
    stretches = [sorted(written.split()[first : first + 24]) for first in range(0, 192, 24)]
    assert sorted(sorted(text.split()) for text in passages.texts) == sorted(stretches)


def test_white_space_does_not_tell_the_order(source: str) -> None:
    """One space behind each word of any alphabet: neither a line's end nor a text's moves with its word."""
    for text in word_order([source], 8, 1).texts:
        assert text == " ".join(text.split()) + " "


def test_a_script_without_spaces_gets_none(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("我们今天去学校，\n明天不去。", "utf-8")
    passages = word_order([str(path)], 2, 1, length=6)
    assert [text for text in passages.texts if text in "我们今天去学校，明天不去。"] == [
        text for text, label in zip(passages.texts, passages.labels, strict=True) if label == "written"
    ]


def test_too_little_text_is_told(source: str) -> None:
    with pytest.raises(UserError, match="8 passages of 24 words, not 9; give more text"):
        word_order([source], 9, 1)
