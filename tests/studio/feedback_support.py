"""Feedback files for tests, and judgements to put in."""

from pathlib import Path
from typing import Any

from groundup.studio.feedback.judgement import Judgement
from groundup.studio.feedback.store import Answer, Store

ABOUT = {"questions": "0123", "ask": "choice", "seed": 1}


def make_store(path: Path, count: int = 3, num_answers: int = 2, **about: Any) -> Store:
    """Questions `question 0`, ... with answers `answer 0 to question 0`, ..."""
    store = Store(path)
    store.begin(ABOUT | about, [[{"role": "user", "content": f"question {number}"}] for number in range(count)])
    for question in store.waiting():
        texts = [f"answer {place} to question {question.number}" for place in range(num_answers)]
        store.answer(question.number, [Answer(text) for text in texts])
    return store


def judgement(rater: str, question: int, verdict: str, answer: int | None = None, /, **parts: Any) -> Judgement:
    given = {
        "id": f"{rater}-{question}-{verdict}-{answer}".ljust(8, "-"),
        "rater": rater,
        "question": question,
        "verdict": verdict,
        "answer": answer,
        "shown": [0, 1],
        "milliseconds": 1500,
    }
    return Judgement.model_validate(given | parts)
