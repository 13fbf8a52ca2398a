"""How well word vectors agree with people: word similarity (Spearman), and analogies (accuracy)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.errors import UserError
from groundup.words.vectors import Method, WordVectors

_QUESTIONS_AT_ONCE = 256


@dataclass(frozen=True)
class Pairs:
    """Pairs of words with the similarity that people gave them."""

    name: str
    words: list[tuple[str, str]]
    scores: list[float]


@dataclass(frozen=True)
class Analogies:
    """Questions `a b c d` (d is to c as b is to a) by section."""

    name: str
    sections: dict[str, list[tuple[str, ...]]]


def read_file(path: Path) -> Pairs | Analogies:
    """Read `word word score` lines, or questions `a b c d` below lines `: section`, as Google's file has them.

    Raises:
        UserError: the file is missing or a line is neither.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give pairs of words with scores, or questions like Google's")
    lines = [
        (number, line.split())
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1)
        if line.strip() and not line.startswith("#")
    ]
    if not lines:
        raise UserError(f"{path} is empty; give pairs of words with scores, or questions like Google's")
    return _analogies(path, lines) if lines[0][1][0].startswith(":") else _pairs(path, lines)


def _pairs(path: Path, lines: list[tuple[int, list[str]]]) -> Pairs:
    words, scores = [], []
    for number, fields in lines:
        try:
            left, right, score = fields
            scores.append(float(score))
        except ValueError:
            raise UserError(
                f"{path}, line {number}: {' '.join(fields)[:60]!r} is not two words and a score"
            ) from None
        words.append((left, right))
    return Pairs(path.stem, words, scores)


def _analogies(path: Path, lines: list[tuple[int, list[str]]]) -> Analogies:
    sections: dict[str, list[tuple[str, ...]]] = {}
    name = ""
    for number, fields in lines:
        if fields[0].startswith(":"):
            name = " ".join(fields).lstrip(": ")
        elif len(fields) != 4:
            raise UserError(f"{path}, line {number}: {' '.join(fields)[:60]!r} is not four words")
        else:
            sections.setdefault(name, []).append(tuple(fields))
    return Analogies(path.stem, sections)


def evaluate(vectors: WordVectors, task: Pairs | Analogies, method: Method = "add") -> dict[str, Any]:
    """The figures of `similarity` or `analogies`, and of which kind they are."""
    if isinstance(task, Pairs):
        return {"task": "similarity", "name": task.name, **similarity(vectors, task)}
    return {"task": "analogies", "name": task.name, "method": method, **analogies(vectors, task, method)}


def similarity(vectors: WordVectors, pairs: Pairs) -> dict[str, Any]:
    """Spearman's correlation of the cosines with the scores, over the pairs of which both words have vectors."""
    from scipy.stats import spearmanr

    known = [
        (vectors.find(left), vectors.find(right), score)
        for (left, right), score in zip(pairs.words, pairs.scores, strict=True)
    ]
    known = [row for row in known if row[0] is not None and row[1] is not None]
    spearman = None
    if len(known) > 2:
        left, right, scores = (np.array(column) for column in zip(*known, strict=True))
        cosines = (vectors.units[left] * vectors.units[right]).sum(1)
        found = float(spearmanr(cosines, scores).statistic)
        spearman = found if np.isfinite(found) else None
    return {"spearman": spearman, "pairs": len(known), "unknown": len(pairs.words) - len(known)}


def analogies(vectors: WordVectors, task: Analogies, method: Method) -> dict[str, Any]:
    """The share of questions whose best word, other than the three given, is the fourth; by section, and of all.

    Questions with words that have no vector are left out and counted.
    """
    sections, right, asked, all_asked = {}, 0, 0, 0
    for name, questions in task.sections.items():
        places = np.array([row for row in _places(vectors, questions) if None not in row], np.int64).reshape(-1, 4)
        correct = sum(int(hits.sum()) for hits in _hits(vectors, places, method))
        sections[name] = {"accuracy": correct / len(places) if len(places) else None, "questions": len(places)}
        right, asked, all_asked = right + correct, asked + len(places), all_asked + len(questions)
    accuracy = right / asked if asked else None
    return {"accuracy": accuracy, "questions": asked, "unknown": all_asked - asked, "sections": sections}


def _places(vectors: WordVectors, questions: list[tuple[str, ...]]) -> Iterator[list[int | None]]:
    return ([vectors.find(word) for word in question] for question in questions)


def _hits(vectors: WordVectors, places: NDArray[np.int64], method: Method) -> Iterator[NDArray[np.bool_]]:
    for begin in range(0, len(places), _QUESTIONS_AT_ONCE):
        block = places[begin : begin + _QUESTIONS_AT_ONCE]
        scores = vectors.analogy_scores(block[:, :3], method)
        np.put_along_axis(scores, block[:, :3], -np.inf, 1)
        yield scores.argmax(1) == block[:, 3]
