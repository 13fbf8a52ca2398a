import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.recipe_stages import PpoRecipe
from groundup.tune.kl_control import KlControl


def test_without_a_target_the_price_stays() -> None:
    control = KlControl.of(PpoRecipe(kl=0.1))
    control.update(1000.0, 64)
    assert control.beta == 0.1


@pytest.mark.parametrize(
    ("kl", "error"), [(6.0, 0.0), (6.6, 0.1), (5.7, -0.05), (60.0, 0.2), (0.0, -0.2), (-3.0, -0.2)]
)
def test_the_price_moves_by_the_error_clipped_to_a_fifth(kl: float, error: float) -> None:
    """Ziegler et al. 2019, section 2.2; 512 answers of a horizon of 10,000."""
    control = KlControl.of(PpoRecipe(kl=0.2, kl_target=6.0, kl_horizon=10_000))
    control.update(kl, 512)
    assert control.beta == pytest.approx(0.2 * (1 + error * 512 / 10_000))


def test_without_a_horizon_a_round_moves_it_by_a_twentieth_at_most() -> None:
    """Whatever the number of its answers."""
    for answers in (16, 256):
        control = KlControl.of(PpoRecipe(kl=0.2, kl_target=6.0, answers=answers))
        control.update(100.0, answers)
        assert control.beta == pytest.approx(0.2 * 1.05)


def test_a_price_of_nothing_cannot_be_steered() -> None:
    with pytest.raises(UserError, match=r"kl=0 cannot be steered towards kl_target=6.*give --kl") as error:
        KlControl.of(PpoRecipe(kl=0.0, kl_target=6.0))
    assert "\n" not in str(error.value)


@given(st.floats(0.5, 20.0))
def test_it_settles_where_the_target_is(target: float) -> None:
    """With a policy whose divergence is inversely as the price."""
    control = KlControl(1.0, target, horizon=100.0)
    for _ in range(2000):
        control.update(4.0 / control.beta, 10)
    assert 4.0 / control.beta == pytest.approx(target, rel=0.01)
