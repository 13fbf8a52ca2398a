"""Bytes a parameter against the published tables, and ZeRO's division against its own formulas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.plan.cluster.states import STATE_RECIPES, state_bytes, state_recipe
from groundup.plan.models import named_shape
from groundup.plan.parameters import total


@pytest.mark.parametrize(
    ("recipe", "bytes_per_parameter"),
    [("fp32", 16), ("bf16", 16), ("bf16-main-grads", 18), ("bf16-fp32-grads", 20)],
)
@pytest.mark.parametrize(
    ("parameters", "gigabytes"),
    [(1e9, 1.0), (7e9, 7.0), (70e9, 70.0), (405e9, 405.0)],
    ids=["1B", "7B", "70B", "405B"],
)
def test_the_table_of_nominal_sizes(
    recipe: str, bytes_per_parameter: int, parameters: float, gigabytes: float
) -> None:
    """Ultra-Scale Playbook: 16, 112, 1120, 6480 GB and with float32 gradients 20, 140, 1400, 8100 GB."""
    states = state_bytes(STATE_RECIPES[recipe], parameters)
    assert states.total / 1e9 == bytes_per_parameter * gigabytes


@pytest.mark.parametrize(
    ("name", "plain", "with_float32_gradients"),
    [
        ("llama2-7b", 107.8, 134.8),
        ("llama3-8b", 128.5, 160.6),
        ("llama2-70b", 1103.6, 1379.5),
        ("llama3-405b", 6493.7, 8117.1),
    ],
)
def test_real_models_take_what_their_parameters_take(
    name: str, plain: float, with_float32_gradients: float
) -> None:
    """GB of the true numbers of parameters, where the nominal tables are off by up to 15 %."""
    shape = named_shape(name)
    assert shape is not None
    for recipe, gigabytes in (("bf16", plain), ("bf16-fp32-grads", with_float32_gradients)):
        assert state_bytes(STATE_RECIPES[recipe], total(shape)).total / 1e9 == pytest.approx(gigabytes, abs=0.06)


_PARAMETERS, _SHARDS = st.integers(1, 10**12), st.integers(1, 4096)


@given(_PARAMETERS, _SHARDS)
def test_zero_divides_as_its_paper_says(psi: int, d: int) -> None:
    """Rajbhandari et al. 2020, figure 1, K = 12: 16 psi, 4 psi + 12 psi / d, 2 psi + 14 psi / d, 16 psi / d."""
    published = [16 * psi, 4 * psi + 12 * psi / d, 2 * psi + 14 * psi / d, 16 * psi / d]
    assert [state_bytes(STATE_RECIPES["bf16"], psi, zero, d).total for zero in range(4)] == pytest.approx(
        published
    )


@given(_PARAMETERS, _SHARDS)
def test_zero_with_float32_gradients(psi: int, d: int) -> None:
    """Playbook: 4 psi more, divided from ZeRO-2 on. Megatron's distributed optimizer: 6 + 12/d."""
    with_both = [
        2 * psi + 2 * psi + 4 * psi + 12 * psi,
        2 * psi + 2 * psi + 4 * psi + 12 * psi / d,
        2 * psi + (2 * psi + 4 * psi + 12 * psi) / d,
        20 * psi / d,
    ]
    recipe = STATE_RECIPES["bf16-fp32-grads"]
    assert [state_bytes(recipe, psi, zero, d).total for zero in range(4)] == pytest.approx(with_both)
    assert state_bytes(STATE_RECIPES["bf16-main-grads"], psi, 1, d).total == pytest.approx((6 + 12 / d) * psi)


@given(st.sampled_from(sorted(STATE_RECIPES)), _PARAMETERS, _SHARDS)
def test_each_stage_of_zero_takes_no_more_than_the_last(name: str, parameters: int, shards: int) -> None:
    recipe = STATE_RECIPES[name]
    totals = [state_bytes(recipe, parameters, zero, shards).total for zero in range(4)]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] == pytest.approx(recipe.total * parameters)
    assert totals[3] == pytest.approx(totals[0] / shards)


def test_an_unknown_recipe_is_one_line_with_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown state recipe 'bf61'; did you mean 'bf16'") as error:
        state_recipe("bf61")
    assert "\n" not in str(error.value)
