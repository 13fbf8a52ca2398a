"""How a pipeline is cut, against the loop of nanotron and the published numbers of parameters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.plan.cluster.stages import stages
from groundup.plan.models import named_shape
from groundup.plan.parameters import non_embedding, total
from groundup.shape import Shape


def _named(name: str) -> Shape:
    shape = named_shape(name)
    assert shape is not None
    return shape


@pytest.mark.parametrize(
    ("name", "count", "layers"),
    [
        # A layer of 1B costs 4 h^2 + 3 h F = 67.1 M and the head v h = 268 M, which is 4 layers: 20 in all.
        ("playbook-1b", 2, [10, 6]),
        ("playbook-1b", 4, [5, 5, 5, 1]),
        ("playbook-1b", 8, [3, 2, 3, 2, 3, 2, 1, 0]),
        # 113 M a layer and 403 M, 3.56 layers: 31.56.
        ("playbook-3b", 2, [16, 12]),
        ("playbook-3b", 4, [8, 8, 8, 4]),
    ],
)
def test_the_head_counts_as_the_layers_that_it_costs(name: str, count: int, layers: list[int]) -> None:
    assert [stage.layers for stage in stages(_named(name), count)] == layers


@given(st.sampled_from(["gpt2", "llama3-8b", "llama2-70b", "qwen3-4b", "playbook-80b"]), st.integers(1, 12))
def test_nothing_is_lost_and_a_tied_embedding_is_there_twice(name: str, count: int) -> None:
    shape = _named(name)
    parts = stages(shape, count)
    assert sum(part.layers for part in parts) == shape.num_layers
    again = shape.vocabulary_size * shape.width if shape.tied and count > 1 else 0
    assert sum(part.parameters for part in parts) == total(shape) + again
    assert [part.is_first for part in parts] == [True] + [False] * (count - 1)
    assert [part.is_last for part in parts] == [False] * (count - 1) + [True]


@given(st.sampled_from(["gpt2", "llama3-8b", "llama2-70b", "llama3-405b"]), st.integers(2, 16))
def test_no_stage_computes_more_than_a_layer_above_its_part(name: str, count: int) -> None:
    """In layers, of which the head is as many as its product costs: 2 a weight in both."""
    shape = _named(name)
    head = shape.vocabulary_size * shape.width / (non_embedding(shape) / shape.num_layers)
    assert max(part.layers for part in stages(shape, count)) < (shape.num_layers + head) / count + 1.001
