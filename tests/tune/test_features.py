import numpy as np
import pytest
import torch

from groundup.data.labelled import LabelledRows
from groundup.model.classifier import pooled
from groundup.tune.features import text_vectors

from .conftest import MakeBody


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_vectors_are_those_of_each_text_alone(family: str, pooling: str, make_body: MakeBody, make_rows) -> None:
    body, rows = make_body(family).train(), make_rows(150, 3)
    told: list[float] = []
    vectors = text_vectors(body, rows.values, pooling, told.append)
    assert vectors.shape == (150, 16)
    assert body.training
    assert told[-1] == 1
    with torch.no_grad():
        for place in (0, 1, 77, 149):
            ids = torch.from_numpy(rows.values[place][None].astype(np.int64))
            expected = pooled(body.eval(), ids[:, ids[0] >= 0], pooling)
            torch.testing.assert_close(torch.from_numpy(vectors[place]), expected[0], rtol=1e-5, atol=1e-5)


def test_the_order_is_that_of_the_rows(make_body: MakeBody, make_rows) -> None:
    rows: LabelledRows = make_rows(100, 4)
    order = np.random.default_rng(0).permutation(100)
    body = make_body()
    np.testing.assert_allclose(
        text_vectors(body, rows.values[order]), text_vectors(body, rows.values)[order], rtol=1e-5, atol=1e-6
    )
