"""Files of word vectors: there and back, with gensim, and damaged."""

from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors

from groundup.errors import UserError
from groundup.words import WordVectors


@pytest.fixture
def vectors() -> WordVectors:
    matrix = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    matrix[0, :2] = 1e-30, 1 / 3
    return WordVectors(["the", "naïve", "水", "x'y"], matrix)


@pytest.mark.parametrize("name", ["v.bin", "v.txt"])
def test_what_is_written_is_read_again_to_the_last_bit(vectors: WordVectors, tmp_path: Path, name: str) -> None:
    vectors.save(tmp_path / name)
    again = WordVectors.load(tmp_path / name)
    assert again.words == vectors.words
    assert np.array_equal(again.vectors, vectors.vectors)


@pytest.mark.parametrize("name", ["v.bin", "v.txt"])
def test_gensim_reads_ours_and_we_read_gensims(vectors: WordVectors, tmp_path: Path, name: str) -> None:
    vectors.save(tmp_path / name)
    theirs = KeyedVectors.load_word2vec_format(str(tmp_path / name), binary=name.endswith("bin"))
    assert theirs.index_to_key == vectors.words
    np.testing.assert_array_equal(theirs.vectors, vectors.vectors)
    other = tmp_path / f"their-{name}"
    theirs.save_word2vec_format(str(other), binary=name.endswith("bin"))
    again = WordVectors.load(other)
    assert again.words == vectors.words
    np.testing.assert_array_equal(again.vectors, vectors.vectors)


def test_glove_files_without_sizes_and_with_spaces_in_words(tmp_path: Path) -> None:
    (tmp_path / "glove.txt").write_text("the 1 2 3\n. . . 4 5 6\n")
    read = WordVectors.load(tmp_path / "glove.txt")
    assert read.words == ["the", ". . ."]
    assert read.vectors.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.bin", b"no sizes", "its first line does not say how many words"),
        ("a.bin", b"3 2\na 12345678\n", "bytes are too few for 3 words of 2 dimensions"),
        ("a.bin", b"1 2\nabcdefghijkl", "it ends, or is no longer readable, behind word 0"),
        ("a.bin", b"1 1\na \x00\x00\xc0\x7f\n", "numbers that are not finite"),
        ("a.txt", b"2 2\na 1 2\nb 1\n", "line 3 holds 1 numbers in place of 2"),
        ("a.txt", b"2 2\na 1 2\nb 1 x\n", "line 3 does not hold 2 numbers"),
        ("a.txt", b"3 2\na 1 2\nb 1 2\n", "it holds 2 words in place of 3"),
        ("a.txt", b"word\n", "its first line is neither sizes nor a word with numbers"),
        ("a.txt", b"", "its first line is neither"),
    ],
)
def test_damage_is_an_error_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        WordVectors.load(tmp_path / name)
    assert "\n" not in str(raised.value)
    assert str(tmp_path / name) in str(raised.value)


@pytest.mark.parametrize("name", ["v.bin", "v.txt"])
def test_a_file_cut_anywhere_is_an_error(vectors: WordVectors, tmp_path: Path, name: str) -> None:
    vectors.save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for size in range(1, len(whole) - 20, 7):
        (tmp_path / name).write_bytes(whole[:size])
        with pytest.raises(UserError):
            WordVectors.load(tmp_path / name)


def test_what_the_formats_cannot_say_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'two words' holds white space"):
        WordVectors(["two words"], np.ones((1, 2), np.float32)).save(tmp_path / "v.txt")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="no such file of word vectors"):
        WordVectors.load(tmp_path / "missing.bin")
