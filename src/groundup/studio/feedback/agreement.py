"""How far raters agree: as it is, and beyond what chance would bring."""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import combinations
from typing import TypeVar

Label = TypeVar("Label", bound=Hashable)


def raw_agreement(units: Sequence[Mapping[str, Label]]) -> float | None:
    """The share of pairs of raters that gave a unit the same label, 0..1; None where no two judged the same.

    Args:
        units: of each thing that was judged, the label that each rater gave it.
    """
    pairs = [one == other for unit in units for one, other in combinations(unit.values(), 2)]
    return sum(pairs) / len(pairs) if pairs else None


def cohen_kappa(units: Sequence[Mapping[str, Label]]) -> float | None:
    """Cohen's kappa (1960, doi:10.1177/001316446002000104) of two raters, over the units that both judged.

    None unless there are exactly two, with a unit in common, and chance alone could disagree.
    """
    raters = sorted({rater for unit in units for rater in unit})
    if len(raters) != 2:
        return None
    both = [(unit[raters[0]], unit[raters[1]]) for unit in units if len(unit) == 2]
    if not both:
        return None
    first, second = (Counter(pair[place] for pair in both) for place in (0, 1))
    observed = sum(one == other for one, other in both) / len(both)
    expected = sum(count * second[label] for label, count in first.items()) / len(both) ** 2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def different(one: object, other: object) -> float:
    """The distance of labels without an order."""
    return float(one != other)


def squared_difference(one: float, other: float) -> float:
    """The distance of labels on a scale whose steps are equal."""
    return (one - other) ** 2


def krippendorff_alpha(
    units: Sequence[Mapping[str, Label]], distance: Callable[[Label, Label], float] = different
) -> float | None:
    """Krippendorff's alpha, of any number of raters, who need not have judged everything.

    1 less the disagreement within units over that between all labels (Krippendorff 2011, "Computing Krippendorff's
    Alpha-Reliability"). None where no two raters judged the same unit, or all labels are equal.
    """
    shared = [Counter(unit.values()) for unit in units if len(unit) > 1]
    total = sum(shared, Counter[Label]())
    count = total.total()
    if not count or len(total) == 1:
        return None
    within = sum(_disagreement(labels, distance) / (labels.total() - 1) for labels in shared) / count
    between = _disagreement(total, distance) / (count * (count - 1))
    return 1 - within / between


def _disagreement(labels: Counter[Label], distance: Callable[[Label, Label], float]) -> float:
    """The distances of all ordered pairs of labels."""
    return 2 * sum(labels[one] * labels[other] * distance(one, other) for one, other in combinations(labels, 2))
