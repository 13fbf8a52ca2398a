"""Neighbours, analogies and evaluation, against gensim and by hand."""

from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors

from groundup.errors import UserError
from groundup.words import WordVectors
from groundup.words.evaluation import Analogies, Pairs, evaluate, read_file

NAMES = ["man", "woman", "king", "queen", "river", "Town"]


@pytest.fixture
def plane() -> WordVectors:
    """King is to man as queen to woman; river and town are elsewhere."""
    rows = [[1, 0, 0], [1, 1, 0], [1, 0, 1], [1, 1, 1], [0.2, -1, 0], [0.3, 0, -1]]
    return WordVectors(NAMES, np.array(rows, np.float32))


@pytest.fixture
def many() -> tuple[WordVectors, KeyedVectors]:
    matrix = np.random.default_rng(0).normal(size=(300, 12)).astype(np.float32)
    words = [f"w{number}" for number in range(300)]
    theirs = KeyedVectors(12)
    theirs.add_vectors(words, matrix)
    return WordVectors(words, matrix), theirs


def test_neighbours_and_analogies_are_those_of_gensim(many: tuple[WordVectors, KeyedVectors]) -> None:
    ours, theirs = many
    for found, expected in (
        (ours.neighbours(["w3"]), theirs.most_similar("w3")),
        (ours.neighbours(["w3", "w9"], 5), theirs.most_similar(["w3", "w9"], topn=5)),
        (ours.analogy("w1", "w2", "w3"), theirs.most_similar(["w2", "w3"], ["w1"])),
        (ours.analogy("w1", "w2", "w3", method="mul"), theirs.most_similar_cosmul(["w2", "w3"], ["w1"])),
    ):
        assert [word for word, _ in found] == [word for word, _ in expected]
    assert [value for _, value in ours.neighbours(["w3"])] == pytest.approx(
        [value for _, value in theirs.most_similar("w3")], abs=1e-6
    )
    assert ours.similarity("w5", "w6") == pytest.approx(theirs.similarity("w5", "w6"), abs=1e-6)


def test_evaluation_is_that_of_gensim(many: tuple[WordVectors, KeyedVectors], tmp_path: Path) -> None:
    ours, theirs = many
    generator = np.random.default_rng(4)
    pairs = [f"w{a}\tw{b}\t{score:.3f}" for a, b, score in generator.integers(0, 320, (200, 3))]
    (tmp_path / "pairs.txt").write_text("\n".join(pairs))
    row = evaluate(ours, read_file(tmp_path / "pairs.txt"))
    _, spearman, unknown = theirs.evaluate_word_pairs(str(tmp_path / "pairs.txt"))
    assert row["spearman"] == pytest.approx(spearman.statistic, abs=1e-9)
    assert row["unknown"] == pytest.approx(unknown / 100 * 200)

    questions = [" ".join(f"w{number}" for number in row) for row in generator.integers(0, 310, (400, 3))]
    answers = [ours.analogy(*line.split(), count=2)[place % 2][0] if "w30" not in line else "w1"
               for place, line in enumerate(questions)]  # fmt: skip
    lines = [f"{question} {answer}" for question, answer in zip(questions, answers, strict=True)]
    (tmp_path / "questions.txt").write_text(
        ": some\n" + "\n".join(lines[:150]) + "\n: more\n" + "\n".join(lines[150:])
    )
    row = evaluate(ours, read_file(tmp_path / "questions.txt"))
    accuracy, sections = theirs.evaluate_word_analogies(str(tmp_path / "questions.txt"))
    assert row["accuracy"] == pytest.approx(accuracy)
    assert row["questions"] == len(sections[-1]["correct"]) + len(sections[-1]["incorrect"])
    assert row["sections"]["some"]["questions"] == len(sections[0]["correct"]) + len(sections[0]["incorrect"])


@pytest.mark.parametrize("method", ["add", "mul"])
def test_the_fourth_corner_is_found(plane: WordVectors, method: str) -> None:
    assert plane.analogy("man", "king", "woman", method=method)[0][0] == "queen"  # type: ignore[arg-type]
    task = Analogies(
        "q", {"royal": [("man", "king", "woman", "queen"), ("man", "woman", "king", "river")], "none": []}
    )
    row = evaluate(plane, task, method)  # type: ignore[arg-type]
    assert (row["accuracy"], row["questions"]) == (0.5, 2)
    assert row["sections"]["none"] == {"accuracy": None, "questions": 0}


def test_words_given_are_left_out_and_others_are_never_invented(plane: WordVectors) -> None:
    assert {word for word, _ in plane.neighbours(["man", "king"], count=99)} == {"woman", "queen", "river", "Town"}
    assert plane.find("MAN") == 0
    assert plane.find("Town") == 5
    assert plane.find("town") is None


def test_an_unknown_word_is_an_error_with_the_nearest_ones(plane: WordVectors) -> None:
    with pytest.raises(UserError, match=r"'quen' has no vector \(of 6 words\); did you mean 'queen'"):
        plane.neighbours(["quen"])
    with pytest.raises(UserError, match=r"'zzzz' has no vector .* no known word is spelt like it"):
        plane.analogy("man", "king", "zzzz")


def test_what_people_said_is_read_from_the_published_files(shared_data: Path) -> None:
    folder = shared_data / "embeddings"
    sizes = {"EN-SIMLEX-999": 999, "EN-WS-353-ALL": 353, "EN-MEN-TR-3k": 3000}
    for name, size in sizes.items():
        pairs = read_file(folder / f"{name}.txt")
        assert isinstance(pairs, Pairs)
        assert len(pairs.words) == len(pairs.scores) == size
    questions = read_file(folder / "questions-words.txt")
    assert isinstance(questions, Analogies)
    assert len(questions.sections) == 14
    assert sum(map(len, questions.sections.values())) == 19_544


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a b 1\nc d\n", "line 2: 'c d' is not two words and a score"),
        ("a b much\n", "line 1: 'a b much' is not two words and a score"),
        (": s\na b c\n", "line 2: 'a b c' is not four words"),
        ("\n", "is empty"),
    ],
)
def test_a_malformed_file_is_an_error_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "f.txt").write_text(content)
    with pytest.raises(UserError, match=message):
        read_file(tmp_path / "f.txt")
