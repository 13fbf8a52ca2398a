"""Families side by side: what cannot be compared is refused before any time is spent."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from groundup.errors import UserError
from groundup.pipeline.compare import Question, compare
from groundup.pipeline.display import Display
from groundup.run import Run
from tests.cli.support import WORDS

QUIET = Display(Console(quiet=True))


@pytest.fixture(scope="module")
def question(tmp_path_factory: pytest.TempPathFactory) -> Question:
    folder = tmp_path_factory.mktemp("compare")
    words = np.random.default_rng(0).choice(WORDS, 40_000)
    (folder / "text.txt").write_text(" ".join(words), "utf-8")
    settings = {
        "train.threads": 1, "train.precision": "fp32", "data.holdout_bytes": 8192, "train.validations": 1,
        "tokenizer.vocabulary_size": 300, "model.width": 32, "model.num_layers": 1, "model.context": 16,
    }  # fmt: skip
    return Question(["nnlm"], "20steps", [str(folder / "text.txt")], folder / "runs", settings=settings)


def test_runs_of_another_budget_are_not_taken_for_these(question: Question) -> None:
    first = compare(question, QUIET)
    assert compare(question, QUIET).tables[0].rows == first.tables[0].rows
    with pytest.raises(UserError, match="budget=20steps, not 30steps"):
        compare(replace(question, budget="30steps"), QUIET)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"budget": "3q"}, "'3q' is not understood"),
        ({"settings": {"train.bacth_size": 3}}, "train.batch_size"),
        ({"families": ["nnlm", "cnn"]}, "cnn does not learn from plain text"),
    ],
)
def test_what_cannot_be_compared_is_refused_at_once(
    changes: dict[str, object], told: str, question: Question, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=told):
        compare(replace(question, out=tmp_path / "runs", **changes), QUIET)  # type: ignore[arg-type]
    assert not (tmp_path / "runs").exists()


def test_where_every_family_fails_there_is_no_answer(question: Question, tmp_path: Path) -> None:
    impossible = question.settings | {"model.width": 32, "model.num_heads": 5}
    with pytest.raises(UserError, match=r"no family could be trained; nnlm: .*num_heads=5"):
        compare(replace(question, out=tmp_path / "runs", settings=impossible), QUIET)
    assert not Run(tmp_path / "runs" / "nnlm").finished


def test_analogies_are_not_pairs(question: Question, tmp_path: Path) -> None:
    (tmp_path / "questions.txt").write_text(": x\na b c d\n")
    with pytest.raises(UserError, match="holds analogies"):
        compare(replace(question, similarities=[tmp_path / "questions.txt"]), QUIET)
