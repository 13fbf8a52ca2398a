"""Memory of serving a model against published figures of weights and caches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.plan.cluster.inference import cache_bytes_per_token, inference_memory
from groundup.plan.models import named_shape
from groundup.shape import Shape


def _named(name: str) -> Shape:
    shape = named_shape(name)
    assert shape is not None
    return shape


@pytest.mark.parametrize(
    ("name", "bytes_per_token"),
    [
        ("llama2-7b", 2 * 32 * 4096 * 2),  # 0.5 MiB: every head has its own keys and values
        ("llama3-8b", 2 * 32 * 1024 * 2),  # 128 KiB: 8 of them for 32 heads
        ("llama2-70b", 2 * 80 * 1024 * 2),  # 320 KiB
        ("gpt3", 2 * 96 * 12_288 * 2),  # 4.5 MiB (Pope et al. 2022 count so for multi-head attention)
    ],
)
def test_keys_and_values_of_a_token(name: str, bytes_per_token: int) -> None:
    assert cache_bytes_per_token(_named(name)) == bytes_per_token


def test_llama_2_7b_in_16_bits_is_13_5_gigabytes() -> None:
    """The size of its published weights, and 2 GiB of cache for one sequence of 4096 tokens."""
    memory = inference_memory(_named("llama2-7b"), 1, 4096)
    assert memory.weights == 13_476_831_232
    assert memory.cache == 2 * 2**30


_TENSORS = st.sampled_from([1, 2, 4, 8, 16])


@given(st.integers(1, 64), st.integers(1, 8192), _TENSORS, st.sampled_from([4, 8, 16]))
def test_what_divides_what(batch: int, context: int, tensor: int, bits: int) -> None:
    shape = _named("llama3-8b")
    whole = inference_memory(shape, batch, context)
    part = inference_memory(shape, batch, context, weight_bits=bits, cache_bits=bits, tensor=tensor)
    assert part.weights == pytest.approx(whole.weights * bits / 16 / tensor)
    # Eight key/value heads: a larger group keeps each of them more than once.
    assert part.cache == pytest.approx(whole.cache * bits / 16 / min(tensor, 8))


def test_a_group_that_does_not_divide_the_heads_is_refused() -> None:
    with pytest.raises(UserError, match="tensor=3 does not divide the model's 32 heads"):
        inference_memory(_named("llama3-8b"), 1, 128, tensor=3)
