"""Words from text, their counts, and the text as ids."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from groundup.errors import UserError
from groundup.words import text as text_module
from groundup.words.settings import TextSettings
from groundup.words.text import splitter, word_lists
from groundup.words.vocabulary import Vocabulary, read_words


def all_words(settings: TextSettings) -> list[list[str]]:
    """The words of each document."""
    documents: list[list[str]] = [[]]
    for words, ends in word_lists(settings, lambda _: None):
        documents[-1] += words
        if ends:
            documents.append([])
    return documents[:-1]


def test_words_are_letters_with_apostrophes_and_single_chinese_characters() -> None:
    text = "The naïve cat's 3rd—'quoted' WORD; 我们走, x2."
    expected = ["the", "naïve", "cat's", "3rd", "quoted", "word", "我", "们", "走", "x2"]
    assert splitter("words", lower=True)(text) == expected
    assert splitter("whitespace", lower=False)("A b\t C.\n") == ["A", "b", "C."]
    assert splitter(r"\d+|(?=x)", lower=False)("12 x 3") == ["12", "3"]
    with pytest.raises(UserError, match=r"--pattern '\(' is not words, whitespace or a regular expression"):
        splitter("(", lower=True)


@pytest.mark.parametrize("white_space", [" ", "\n"])
def test_no_word_is_cut_however_long_the_document_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, white_space: str
) -> None:
    monkeypatch.setattr(text_module, "_PIECE_BYTES", 100)
    words = [f"ä{number}" for number in range(2000)]
    (tmp_path / "a.txt").write_text(white_space.join(words), "utf-8")
    (tmp_path / "b.txt").write_text("你" * 300, "utf-8")  # nowhere to cut but between characters
    assert all_words(TextSettings(sources=[str(tmp_path)])) == [words, ["你"] * 300]


def test_ids_are_places_by_frequency_and_rare_words_are_left_out(tmp_path: Path) -> None:
    lists = [(["b", "a", "b", "c"], False), (["c", "b"], True), (["a", "rare", "c"], True)]
    vocabulary, ids = read_words(lists, 2, tmp_path)
    assert vocabulary.words == ["b", "c", "a"]  # b and c are equally frequent
    assert vocabulary.counts.tolist() == [3, 3, 2]
    assert ids.tolist() == [0, 2, 0, 1, 1, 0, -1, 2, 1, -1]
    assert vocabulary.num_tokens == 8
    vocabulary.save(tmp_path / "v.txt")
    assert Vocabulary.load(tmp_path / "v.txt").equals(vocabulary)
    assert not vocabulary.equals(Vocabulary(vocabulary.words, np.array([3, 3, 3])))


def test_real_text_is_counted_as_by_a_dictionary(shared_data: Path, tmp_path: Path) -> None:
    settings = TextSettings(sources=[str(shared_data / "pretrain_en" / "tinyshakespeare.txt")])
    vocabulary, ids = read_words(word_lists(settings, lambda _: None), 5, tmp_path)
    counts = Counter(word for words in all_words(settings) for word in words)
    expected = {word: count for word, count in counts.items() if count >= 5}
    assert dict(zip(vocabulary.words, vocabulary.counts.tolist(), strict=True)) == expected
    assert np.bincount(ids[ids >= 0]).tolist() == vocabulary.counts.tolist()


def test_the_number_of_words_held_is_bounded_and_frequent_ones_stay(tmp_path: Path) -> None:
    lists = [([f"once{10 * turn + place}" for place in range(10)] + ["often"] * 3, True) for turn in range(100)]
    vocabulary, ids = read_words([*lists, (["end"] * 4, True)], 2, tmp_path, most_words=20)
    assert vocabulary.words == ["often", "end"]
    assert vocabulary.counts.tolist() == [300, 4]
    assert (ids == 0).sum() == 300


def test_too_little_text_is_an_error_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="3 different words, of which 0 occur 5 times; give more text or a smaller"
    ):
        read_words([(["a", "b", "c"], True)], 5, tmp_path)


def test_a_damaged_vocabulary_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("good 3\nbad\n")
    with pytest.raises(UserError, match="line 2: 'bad' is not a word and its count"):
        Vocabulary.load(tmp_path / "v.txt")
