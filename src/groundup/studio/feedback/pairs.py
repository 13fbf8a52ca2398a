"""Judgements as pairs to learn from: a prompt, the answer that was preferred, and the one that was not."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from groundup.studio.feedback.judgement import Judgement
from groundup.studio.feedback.store import Question, Store


@dataclass(frozen=True)
class Exported:
    """Pairs as `read_preferences` reads them, and the judgements and pairs of answers that gave none.

    `ties` are judgements without a preference, `undecided` pairs of answers about which there is no majority.
    """

    pairs: list[dict[str, Any]]
    ties: int
    undecided: int


@dataclass(frozen=True)
class _Preference:
    question: int
    better: int
    worse: int
    judgement: Judgement


def export_pairs(store: Store, *, majority: bool = False) -> Exported:
    """One pair a preference of a rater; or, with `majority`, one a pair of answers, which most raters prefer so.

    Where a rater wrote a better answer it is preferred to what it was made of, with `majority` too.
    """
    judgements = store.judgements()
    questions = {number: store.question(number) for number in sorted({each.question for each in judgements})}
    preferences = [preference for each in judgements for preference in _preferences(each)]
    edits = [_edited(questions[each.question], each) for each in judgements if each.verdict == "edit"]
    with_preference = {preference.judgement.id for preference in preferences}
    ties = sum(each.verdict != "edit" and each.id not in with_preference for each in judgements)
    if not majority:
        pairs = [_pair(questions[each.question], each.better, each.worse, [each]) for each in preferences]
        return Exported(pairs + edits, ties, 0)
    pairs, undecided = _majority(questions, preferences)
    return Exported(pairs + edits, ties, undecided)


def _preferences(judgement: Judgement) -> Iterator[_Preference]:
    if judgement.verdict == "better":
        assert judgement.answer is not None, "the judgement was checked"
        for other in sorted(set(judgement.shown) - {judgement.answer}):
            yield _Preference(judgement.question, judgement.answer, other, judgement)
    for (one, rating), (other, other_rating) in combinations(enumerate(judgement.ratings or ()), 2):
        if rating != other_rating:
            better, worse = (one, other) if rating > other_rating else (other, one)
            yield _Preference(judgement.question, better, worse, judgement)


def _majority(questions: dict[int, Question], preferences: list[_Preference]) -> tuple[list[dict[str, Any]], int]:
    """The pairs, and how many pairs of answers have as many votes one way as the other."""
    votes: dict[tuple[int, ...], list[_Preference]] = defaultdict(list)
    for each in preferences:
        votes[(each.question, *sorted((each.better, each.worse)))].append(each)
    pairs, undecided = [], 0
    for (number, *_), cast in votes.items():
        winner, count = Counter((each.better, each.worse) for each in cast).most_common(1)[0]
        if 2 * count == len(cast):
            undecided += 1
            continue
        won = [each for each in cast if (each.better, each.worse) == winner]
        pairs.append(_pair(questions[number], *winner, won) | {"votes": [count, len(cast) - count]})
    return pairs, undecided


def _pair(question: Question, better: int, worse: int, preferences: list[_Preference]) -> dict[str, Any]:
    """The pair, who preferred it so, and how long it took on average."""
    return _line(
        question,
        question.answers[better].text,
        question.answers[worse].text,
        [preference.judgement for preference in preferences],
    )


def _edited(question: Question, judgement: Judgement) -> dict[str, Any]:
    assert judgement.answer is not None and judgement.text is not None, "the judgement was checked"
    return _line(question, judgement.text, question.answers[judgement.answer].text, [judgement]) | {"edited": True}


def _line(question: Question, chosen: str, rejected: str, judgements: list[Judgement]) -> dict[str, Any]:
    seconds = sum(each.milliseconds for each in judgements) / len(judgements) / 1000
    return {
        "prompt": question.messages,
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "rater": ", ".join(each.rater for each in judgements),
        "seconds": round(seconds, 3),
    }
