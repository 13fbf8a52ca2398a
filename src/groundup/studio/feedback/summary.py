"""What a feedback file holds, in figures: who judged how much, how, and how far the raters agree."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Any

from groundup.studio.feedback.agreement import cohen_kappa, krippendorff_alpha, raw_agreement, squared_difference
from groundup.studio.feedback.judgement import Judgement
from groundup.studio.feedback.store import Store

_LABELS = ("better", "tie", "bad")


def summary(store: Store) -> dict[str, Any]:
    """The figures, as JSON can write them; what cannot be said is None.

    `first_chosen` is the share of choices that fell on the answer shown first: far from its share of the answers,
    the place decided and not the text.
    """
    judgements, states = store.judgements(), store.states()
    choices = [each for each in judgements if each.verdict == "better"]
    first = sum(each.answer == each.shown[0] for each in choices)
    return {
        "questions": sum(states.values()),
        "waiting": states["waiting"],
        "left_out": states["left out"],
        "judgements": len(judgements),
        "undone": len(store.judgements(undone=True)),
        "verdicts": dict(Counter(each.verdict for each in judgements)),
        "first_chosen": first / len(choices) if choices else None,
        "raters": _raters(judgements),
        "agreement": {
            "choices": _agreement_of_choices(judgements),
            "ratings": _agreement_of_ratings(judgements),
        },
    }


def _raters(judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    milliseconds: dict[str, list[int]] = defaultdict(list)
    for each in judgements:
        milliseconds[each.rater].append(each.milliseconds)
    return [
        {"rater": rater, "judged": len(times), "median_seconds": median(times) / 1000}
        for rater, times in sorted(milliseconds.items())
    ]


def _agreement_of_choices(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """A label is the answer that is better, or that there is none; an edit is no label."""
    units: dict[int, dict[str, str]] = defaultdict(dict)
    for each in judgements:
        if each.verdict in _LABELS:
            units[each.question][each.rater] = f"{each.verdict} {each.answer}"
    found = list(units.values())
    return _shared(found) | {"cohen_kappa": cohen_kappa(found), "krippendorff_alpha": krippendorff_alpha(found)}


def _agreement_of_ratings(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Each answer's rating is a label on a scale; alpha's distance is the squared difference."""
    units: dict[tuple[int, int], dict[str, int]] = defaultdict(dict)
    for each in judgements:
        for answer, rating in enumerate(each.ratings or ()):
            units[each.question, answer][each.rater] = rating
    found = list(units.values())
    alpha = krippendorff_alpha(found, squared_difference)
    return _shared(found) | {"cohen_kappa": cohen_kappa(found), "krippendorff_alpha": alpha}


def _shared(units: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"judged_by_several": sum(len(unit) > 1 for unit in units), "raw_agreement": raw_agreement(units)}
