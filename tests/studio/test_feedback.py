"""The feedback file, what is exported of it, and how agreement is measured."""

import json
import math
import random
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import cohen_kappa_score

from groundup.data.conversations import read_preferences
from groundup.errors import UserError
from groundup.studio.feedback.agreement import (
    cohen_kappa,
    krippendorff_alpha,
    raw_agreement,
    squared_difference,
)
from groundup.studio.feedback.app import shown_order
from groundup.studio.feedback.pairs import export_pairs
from groundup.studio.feedback.store import Answer, Store, StoreError
from groundup.studio.feedback.summary import summary
from groundup.studio.feedback.words import CHINESE, ENGLISH

from .feedback_support import ABOUT, judgement, make_store

labels = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=40)


@settings(max_examples=50, deadline=None)
@given(labels)
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    units = [{"anna": one, "bob": other} for one, other in pairs]
    one, other = zip(*pairs, strict=True)
    found = cohen_kappa([*units, {"anna": "a"}])
    if len({*one, *other}) == 1:
        assert found is None
    else:
        assert found == pytest.approx(cohen_kappa_score(one, other), abs=1e-12)
    assert raw_agreement(units) == sum(a == b for a, b in pairs) / len(pairs)


# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", part C: four observers, twelve units.
PUBLISHED = ["123321412...", "123322412 5.3", ".33323422 51.", "123324412 51."]


def published() -> list[dict[str, int]]:
    rows = [row.replace(" ", "") for row in PUBLISHED]
    return [
        {str(rater): int(row[unit]) for rater, row in enumerate(rows) if row[unit] != "."} for unit in range(12)
    ]


def test_alpha_is_the_published_one() -> None:
    assert krippendorff_alpha(published()) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(published(), squared_difference) == pytest.approx(0.849, abs=5e-4)


def test_agreement_needs_what_two_have_judged() -> None:
    for units in ([], [{"anna": 1}, {"bob": 1}]):
        assert raw_agreement(units) is cohen_kappa(units) is krippendorff_alpha(units) is None
    assert cohen_kappa([{"anna": 1, "bob": 2, "eve": 1}]) is None
    independent = random.Random(1)
    units = [{rater: independent.randint(0, 2) for rater in "abc"} for _ in range(4000)]
    assert krippendorff_alpha(units) == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize(
    "wrong",
    [
        {"verdict": "better"},
        {"verdict": "better", "answer": 2},
        {"verdict": "tie", "answer": 0},
        {"verdict": "ratings", "ratings": [1, 6]},
        {"verdict": "ratings", "ratings": [1, 2, 3]},
        {"verdict": "edit", "answer": 0},
        {"verdict": "edit", "answer": 0, "text": ""},
        {"verdict": "tie", "shown": [0, 0]},
        {"verdict": "tie", "milliseconds": -1},
        {"verdict": "tie", "milliseconds": 1 << 63},
        {"verdict": "tie", "question": 1 << 63},
        {"verdict": "tie", "rater": "  "},
        {"verdict": "tie", "id": "short"},
        {"verdict": "tie", "more": 1},
    ],
)
def test_judgements_without_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        judgement("anna", 0, "tie", **wrong)


def test_a_judgement_is_stored_once(tmp_path: Path) -> None:
    first = judgement(" anna ", 0, "better", 1, shown=[1, 0])
    with make_store(tmp_path / "f.sqlite") as store:
        assert store.judge(first)
        assert store.judge(first)
        # The same rater in another window; another rater.
        assert not store.judge(judgement("anna", 0, "tie"))
        assert store.judge(judgement("bob", 0, "tie"))
        assert store.judgements() == [first, judgement("bob", 0, "tie")]
        assert first.rater == "anna"
        with pytest.raises(UserError, match="3 answers"):
            store.judge(judgement("anna", 1, "tie", shown=[0, 1, 2]))
        with pytest.raises(UserError, match="question 9"):
            store.judge(judgement("anna", 9, "tie"))
    [stored] = sqlite3.connect(tmp_path / "f.sqlite").execute(
        "SELECT judged_at, milliseconds, shown FROM judgements WHERE rater = 'anna'"
    )
    assert abs((datetime.now(UTC) - datetime.fromisoformat(stored[0])).total_seconds()) < 60
    assert stored[1:] == (1500, "[1, 0]")


def test_undoing_marks_and_asks_again(tmp_path: Path) -> None:
    with make_store(tmp_path / "f.sqlite") as store:
        for number in (0, 1):
            store.judge(judgement("anna", number, "better", 1))
        last = store.progress("anna").last
        assert last == judgement("anna", 1, "better", 1).id
        assert not store.undo("bob", last)
        # The request is repeated when its answer was lost: it does not take two back.
        assert store.undo("anna", last) and store.undo("anna", last)
        assert (store.progress("anna").done, store.next("anna").number) == (1, 1)
        assert store.judge(judgement("anna", 1, "tie"))
        assert [each.verdict for each in store.judgements()] == ["better", "tie"]
        assert [each.verdict for each in store.judgements(undone=True)] == ["better"]


def test_each_rater_gets_every_question(tmp_path: Path) -> None:
    with make_store(tmp_path / "f.sqlite", count=2) as store:
        store.leave_out(1, "too long")
        assert store.next("anna").number == store.next("bob").number == 0
        store.judge(judgement("anna", 0, "bad"))
        assert store.next("anna") is None
        assert (store.progress("anna").done, store.progress("anna").total) == (1, 1)
        assert store.next("bob").number == 0


def test_many_threads_write_at_once(tmp_path: Path) -> None:
    with make_store(tmp_path / "f.sqlite", count=10) as store, Store(store.path) as same:
        given = [judgement(rater, number, "tie") for rater in ("anna", "bob", "eve") for number in range(10)]
        with ThreadPoolExecutor(6) as pool:
            stored = pool.map(lambda numbered: (store, same)[numbered[0] % 2].judge(numbered[1]), enumerate(given))
            assert all(stored)
        assert {each.id for each in same.judgements()} == {each.id for each in given}


def test_a_file_is_gone_on_with_only_as_it_was_begun(tmp_path: Path) -> None:
    with make_store(tmp_path / "f.sqlite") as store:
        store.judge(judgement("anna", 0, "tie"))
    with Store(tmp_path / "f.sqlite") as store:
        store.begin(ABOUT, [])
        assert store.progress("anna").done == 1
        with pytest.raises(UserError, match="begun with seed=1, not 2"):
            store.begin(ABOUT | {"seed": 2}, [])


def test_other_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    text, other = tmp_path / "text.txt", tmp_path / "other.db"
    text.write_text("words " * 100)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    for path in (text, other):
        before = path.read_bytes()
        with pytest.raises(UserError):
            Store(path)
        assert path.read_bytes() == before
    with pytest.raises(UserError, match="cannot be opened"):
        Store(tmp_path / "nowhere" / "f.sqlite")


def test_each_file_has_a_session_of_its_own(tmp_path: Path) -> None:
    with make_store(tmp_path / "f.sqlite") as store, make_store(tmp_path / "g.sqlite") as other:
        assert store.about() == other.about() == ABOUT
        assert store.session() != other.session()
        session = store.session()
    with Store(tmp_path / "f.sqlite") as store:
        assert store.session() == session


def test_what_sqlite_cannot_do_is_one_line_and_nothing_is_lost(tmp_path: Path) -> None:
    store = make_store(tmp_path / "f.sqlite")
    store._connection.execute("PRAGMA busy_timeout=10")
    with sqlite3.connect(store.path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        for change in (lambda: store.begin(ABOUT, []), lambda: store.judge(judgement("anna", 0, "tie"))):
            with pytest.raises(StoreError, match=r"^[^\n]*f\.sqlite cannot be used \(database is locked\)[^\n]*$"):
                change()
        other.execute("ROLLBACK")
    # The end of this transaction fails, and SQLite leaves it open.
    with pytest.raises(StoreError, match="FOREIGN KEY"), store._writing() as connection:
        connection.execute("PRAGMA defer_foreign_keys=ON")
        connection.execute("INSERT INTO answers VALUES (99, 0, 'of no question', NULL, NULL)")
    assert store.judge(judgement("anna", 0, "tie"))
    with Store(store.path) as same:
        assert len(same.judgements()) == 1
    store.__exit__()
    other.close()


def test_a_damaged_file_is_told_in_one_line(tmp_path: Path) -> None:
    make_store(tmp_path / "f.sqlite", count=200).__exit__()
    content = bytearray((tmp_path / "f.sqlite").read_bytes())
    # The first page names the tables, which are damaged.
    content[4096:] = b"\xff" * (len(content) - 4096)
    (tmp_path / "f.sqlite").write_bytes(content)
    with pytest.raises(StoreError, match=r"^[^\n]*malformed[^\n]*$"), Store(tmp_path / "f.sqlite") as store:
        store.states()


def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = make_store(tmp_path / "f.sqlite")
    store._connection.execute("PRAGMA user_version=2")
    store.__exit__()
    before = store.path.read_bytes()
    with pytest.raises(UserError, match="has format 2"):
        Store(store.path)
    assert store.path.read_bytes() == before


def test_pairs_are_read_as_preferences(tmp_path: Path) -> None:
    with make_store(tmp_path / "f.sqlite", count=4) as store:
        store.judge(judgement("anna", 0, "better", 1, shown=[1, 0]))
        store.judge(judgement("bob", 0, "better", 0, milliseconds=250))
        store.judge(judgement("anna", 1, "tie"))
        store.judge(judgement("bob", 1, "bad"))
        store.judge(judgement("anna", 2, "edit", 0, text="as it should be"))
        store.judge(judgement("bob", 2, "ratings", ratings=[2, 5]))
        store.judge(judgement("anna", 3, "ratings", ratings=[3, 3]))
        exported = export_pairs(store)
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(pair) + "\n" for pair in exported.pairs))
    read = [
        (pair.prompt[-1]["content"], pair.chosen[0]["content"], pair.rejected[0]["content"])
        for pair in read_preferences([str(file)])
    ]
    assert read == [
        ("question 0", "answer 1 to question 0", "answer 0 to question 0"),
        ("question 0", "answer 0 to question 0", "answer 1 to question 0"),
        ("question 2", "answer 1 to question 2", "answer 0 to question 2"),
        ("question 2", "as it should be", "answer 0 to question 2"),
    ]
    assert [(pair["rater"], pair["seconds"]) for pair in exported.pairs[:2]] == [("anna", 1.5), ("bob", 0.25)]
    assert (exported.ties, exported.undecided) == (3, 0)


def test_the_majority_decides(tmp_path: Path) -> None:
    votes = {"anna": [0, 0], "bob": [0, 1], "eve": [1]}
    with make_store(tmp_path / "f.sqlite", num_answers=3) as store:
        for rater, answers in votes.items():
            for number, answer in enumerate(answers):
                store.judge(judgement(rater, number, "better", answer, shown=[2, 0, 1]))
        exported = export_pairs(store, majority=True)
    found = [
        (pair["chosen"][0]["content"], pair["rejected"][0]["content"], pair["votes"]) for pair in exported.pairs
    ]
    # Of question 0, 0 beats 1 by two to one; all are for 0 or 1, never for 2. Of question 1, 0 and 1 are even.
    assert sorted(found) == [
        ("answer 0 to question 0", "answer 1 to question 0", [2, 1]),
        ("answer 0 to question 0", "answer 2 to question 0", [2, 0]),
        ("answer 0 to question 1", "answer 2 to question 1", [1, 0]),
        ("answer 1 to question 0", "answer 2 to question 0", [1, 0]),
        ("answer 1 to question 1", "answer 2 to question 1", [1, 0]),
    ]
    assert exported.undecided == 1


def test_the_summary_counts_and_measures(tmp_path: Path) -> None:
    given = {"anna": [("better", 0), ("better", 1), ("tie", None), ("better", 0)]}
    given["bob"] = [("better", 0), ("better", 0), ("tie", None), ("bad", None)]
    with make_store(tmp_path / "f.sqlite", count=5) as store:
        for rater, verdicts in given.items():
            for number, (verdict, answer) in enumerate(verdicts):
                store.judge(judgement(rater, number, verdict, answer, shown=[number % 2, 1 - number % 2]))
        store.judge(judgement("eve", 0, "edit", 0, text="better"))
        store.undo("eve", store.progress("eve").last)
        store.leave_out(4, "too long")
        figures = summary(store)
    one, other = ([f"{verdict} {answer}" for verdict, answer in verdicts] for verdicts in given.values())
    choices = figures["agreement"]["choices"]
    assert choices["raw_agreement"] == 0.5
    assert choices["cohen_kappa"] == pytest.approx(cohen_kappa_score(one, other))
    assert figures["agreement"]["ratings"]["raw_agreement"] is None
    assert figures["verdicts"] == {"better": 5, "tie": 2, "bad": 1}
    assert figures["first_chosen"] == 3 / 5
    assert [(each["rater"], each["judged"], each["median_seconds"]) for each in figures["raters"]] == [
        ("anna", 4, 1.5),
        ("bob", 4, 1.5),
    ]
    assert (figures["questions"], figures["left_out"], figures["undone"]) == (5, 1, 1)
    json.dumps(figures, allow_nan=False)


def test_ratings_agree_as_numbers(tmp_path: Path) -> None:
    with make_store(tmp_path / "f.sqlite") as store:
        for rater, shift in (("anna", 0), ("bob", 1)):
            for number in range(3):
                ratings = [1 + number + shift, 4 - number + shift]
                store.judge(judgement(rater, number, "ratings", ratings=ratings))
        found = summary(store)["agreement"]["ratings"]
    assert found["raw_agreement"] == 0
    # Always one apart: within units (1)^2; between all the labels 1, 4, 2, 3, 3, 2 and the same plus 1.
    values = [1, 4, 2, 3, 3, 2, 2, 5, 3, 4, 4, 3]
    between = sum((a - b) ** 2 for a in values for b in values) / (12 * 11)
    assert found["krippendorff_alpha"] == pytest.approx(1 - 1 / between)


def test_the_order_is_random_for_each_rater_and_lasting() -> None:
    orders = [shown_order(2, 1, "anna", number) for number in range(400)]
    assert orders == [shown_order(2, 1, "anna", number) for number in range(400)]
    first = sum(order[0] == 0 for order in orders)
    assert abs(first - 200) < 4 * math.sqrt(100)
    same = sum(order == shown_order(2, 1, "bob", number) for number, order in enumerate(orders))
    assert abs(same - 200) < 4 * math.sqrt(100)


def test_an_answer_keeps_where_it_came_from(tmp_path: Path) -> None:
    answers = [Answer("a", "runs/sft", {"temperature": 1.0, "seed": 7}), Answer("b")]
    with Store(tmp_path / "f.sqlite") as store:
        store.begin(ABOUT, [[{"role": "user", "content": "中文 <b>"}]])
        store.answer(0, answers)
        assert store.question(0).answers == answers
        assert store.question(0).messages == [{"role": "user", "content": "中文 <b>"}]
        assert store.states() == {"waiting": 0, "ready": 1, "left out": 0}


def test_both_languages_say_the_same_things() -> None:
    assert ENGLISH.keys() == CHINESE.keys()
    for name, text in ENGLISH.items():
        assert sorted(part.split("}")[0] for part in text.split("{")[1:]) == sorted(
            part.split("}")[0] for part in CHINESE[name].split("{")[1:]
        )
