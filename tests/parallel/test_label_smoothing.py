"""Smoothed targets on many devices: training as on one, and a held-out loss that is not smoothed."""

import pytest

from tests.parallel.test_many_devices import check, layout
from tests.parallel.training import Case

_SMOOTHED = {"label_smoothing": 0.1}


@pytest.mark.parametrize("way", ["data", "tensor", "context", "pipeline"])
def test_as_on_one_device(way: str) -> None:
    """With `tensor` each device has a part of the vocabulary, with `pipeline` only the last one has logits."""
    check(
        2,
        {
            "tied": Case(layout(**{way: 2}), train=_SMOOTHED),
            "untied, documents": Case(layout(**{way: 2}), "llama", tied=False, documents=True, train=_SMOOTHED),
        },
    )
