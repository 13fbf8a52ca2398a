from typing import Any

import pytest
from pydantic import ValidationError

from groundup.errors import UserError
from groundup.shape import FAMILIES, Shape, family

NUMBERS: dict[str, Any] = {
    "family": "llama",
    "num_layers": 2,
    "width": 32,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_width": 8,
    "feedforward_width": 48,
    "vocabulary_size": 61,
    "context": 24,
}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_kv_heads": 3}, "model.num_heads=4 is not a multiple of model.num_kv_heads=3"),
        ({"num_kv_heads": 8}, "model.num_heads=4 is not a multiple of model.num_kv_heads=8"),
        ({"head_width": 7}, "model.head_width=7 is odd"),
        ({"family": "gpt2"}, "gpt2 needs num_kv_heads = num_heads"),
        ({"family": "gpt2", "num_kv_heads": 4, "width": 40}, "gpt2 needs"),
        ({"num_experts": 4}, "llama has no experts, but model.num_experts=4"),
        (
            {"family": "qwen3_moe", "num_experts": 4},
            "needs model.num_experts and .*experts_per_token; give both",
        ),
        ({"family": "qwen3_moe", "num_experts": 4, "experts_per_token": 5}, "choose at most 4"),
        (
            {"family": "qwen3_moe", "num_experts": 8, "experts_per_token": 5},
            "model.feedforward_width=48 is not a multiple of model.experts_per_token=5",
        ),
        ({"family": "gpt3"}, r"unknown model family 'gpt3'; did you mean 'gpt2'\?"),
    ],
)
def test_numbers_that_do_not_fit_are_refused_in_one_line(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named) as error:
        Shape(**NUMBERS | changes)
    assert "\n" not in str(error.value)


def test_the_experts_of_a_token_share_the_feedforward_width() -> None:
    mixture = Shape(**NUMBERS | {"family": "qwen3_moe", "num_experts": 8, "experts_per_token": 3})
    assert (mixture.expert_width, mixture.total_feedforward_width) == (16, 128)
    dense = Shape(**NUMBERS)
    assert (dense.expert_width, dense.total_feedforward_width) == (None, 48)


def test_learned_positions_allow_odd_heads() -> None:
    shape = Shape(**NUMBERS | {"family": "gpt2", "num_kv_heads": 4, "head_width": 7, "width": 28})
    assert shape.head_width == 7


@pytest.mark.parametrize("changes", [{"num_layers": 0}, {"context": 0}, {"rope_theta": 0.0}, {"depth": 3}])
def test_out_of_range_and_unknown_fields_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Shape(**NUMBERS | changes)


def test_a_shape_does_not_change_and_can_be_a_key() -> None:
    shape = Shape(**NUMBERS)
    with pytest.raises(ValidationError):
        shape.width = 64  # type: ignore[misc]
    assert {shape: 1}[Shape(**NUMBERS)] == 1
    assert Shape(**shape.model_dump()) == shape


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_families_are_found_by_name(name: str) -> None:
    assert family(name) is FAMILIES[name]


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(UserError, match=r"unknown model family 'nonesuch'; known: .*gpt2, llama"):
        family("nonesuch")
