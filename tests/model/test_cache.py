import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ..shapes import DECODERS
from .conftest import MakeModel, MakeShape

LENGTH = 24


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=25, deadline=None)
@given(cuts=st.sets(st.integers(1, LENGTH - 1)))
def test_any_chunks_give_the_logits_of_one_pass(
    name: str, make_shape: MakeShape, make_random: MakeModel, cuts: set[int]
) -> None:
    model = make_random(make_shape(name))
    ids = torch.randint(0, 61, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    ends = [*sorted(cuts), LENGTH]
    with torch.no_grad():
        whole, cache = model(ids), model.new_cache(batch=2)
        parts = []
        for start, end in zip([0, *ends], ends, strict=False):
            parts.append(model(ids[:, start:end], cache))
            assert cache.length == end
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-5, atol=1e-5)


def test_caches_do_not_share_memory(family: str, make_shape: MakeShape, make_random: MakeModel) -> None:
    model = make_random(make_shape(family))
    first, second = model.new_cache(), model.new_cache()
    with torch.no_grad():
        expected = model(torch.tensor([[1, 2, 3, 4]]))[:, -1]
        model(torch.tensor([[1, 2, 3]]), first)
        model(torch.tensor([[9, 8, 7]]), second)
        found = model(torch.tensor([[4]]), first)[:, -1]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
