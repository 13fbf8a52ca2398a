"""The bigram model against its formula, written out with loops."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.evaluate.bigram import Bigram

_SIZE = 6


def _by_hand(stream: list[int], before: int, id: int) -> float:
    pairs = Counter(pairwise(stream))
    sizes = Counter(pairs.values())
    discount = sizes[1] / (sizes[1] + 2 * sizes[2]) if sizes[1] else 0.5
    preceding = Counter(second for _, second in pairs)
    lower = max(preceding[id] - discount, 0) / len(pairs) + discount * len(preceding) / len(pairs) / _SIZE
    total = sum(count for (first, _), count in pairs.items() if first == before)
    if not total:
        return lower
    kinds = sum(first == before for first, _ in pairs)
    return max(pairs[before, id] - discount, 0) / total + discount * kinds / total * lower


@given(st.lists(st.integers(0, _SIZE - 1), min_size=2, max_size=60))
def test_it_is_the_formula_and_a_distribution(stream: list[int]) -> None:
    model = Bigram.learn(np.array(stream), _SIZE)
    for before in range(_SIZE):
        found = np.exp(-model.nats(np.full(_SIZE, before), np.arange(_SIZE)))
        assert found == pytest.approx([_by_hand(stream, before, id) for id in range(_SIZE)], rel=1e-9)
        assert math.isclose(found.sum(), 1.0, rel_tol=1e-9)


def test_what_follows_always_is_expected() -> None:
    model = Bigram.learn(np.tile([0, 1, 2, 3], 500), _SIZE)
    likely, unlikely = model.nats(np.array([1, 1]), np.array([2, 3]))
    assert likely < 0.01 and unlikely > 3.0
