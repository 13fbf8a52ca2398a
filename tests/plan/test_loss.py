import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.plan.loss import SMALL_RUNS, LossLaw, effective_tokens

_HALF_LIFE = 15.387756  # R_D* of Muennighoff et al. 2023

# Chinchilla's third approach, in nats per token (Hoffmann et al. 2022, table A3).
CHINCHILLA = LossLaw(
    irreducible=1.69,
    size_factor=406.4,
    size_exponent=0.34,
    data_factor=410.7,
    data_exponent=0.28,
    compressibility=2.0,
    relative_error=0.0,
    origin="Chinchilla",
)


def test_the_law_is_hoffmanns() -> None:
    """Gopher and Chinchilla: the sums of the three terms, each rounded to three digits."""
    gopher, chinchilla = CHINCHILLA.bits_per_byte(280e9, 300e9), CHINCHILLA.bits_per_byte(70e9, 1.4e12)
    assert gopher == pytest.approx(1.69 + 0.052 + 0.251, abs=1e-3)
    assert chinchilla == pytest.approx(1.69 + 0.083 + 0.163, abs=1e-3)


def test_harder_text_costs_in_proportion() -> None:
    easy, hard = (CHINCHILLA.bits_per_byte(1e9, 1e10, compressibility) for compressibility in (1.0, 3.0))
    assert hard == pytest.approx(3 * easy)
    assert CHINCHILLA.bits_per_byte(1e9, 1e10, 2.0) == CHINCHILLA.bits_per_byte(1e9, 1e10)


@given(st.floats(1e3, 1e12), st.floats(1e3, 1e13), st.floats(1.01, 100))
def test_more_parameters_and_tokens_lower_the_loss(parameters: float, tokens: float, factor: float) -> None:
    loss = SMALL_RUNS.bits_per_byte(parameters, tokens)
    assert SMALL_RUNS.bits_per_byte(parameters * factor, tokens) < loss
    assert SMALL_RUNS.bits_per_byte(parameters, tokens * factor) < loss
    assert loss > SMALL_RUNS.irreducible


@pytest.mark.parametrize("epochs", [1.5, 4.0, 9.493, 44.0])
def test_repeated_tokens_are_worth_what_muennighoff_found(epochs: float) -> None:
    unique = 25e9
    expected = unique + unique * _HALF_LIFE * (1 - math.e ** (-(epochs - 1) / _HALF_LIFE))
    assert effective_tokens(epochs * unique, unique) == pytest.approx(expected, rel=1e-12)


@given(st.floats(1, 1e12), st.floats(1, 1e12))
def test_repetition_never_helps_and_never_exceeds_its_limit(tokens: float, unique: float) -> None:
    worth = effective_tokens(tokens, unique)
    assert worth <= tokens * (1 + 1e-12)
    assert worth <= unique * (1 + _HALF_LIFE)
    assert effective_tokens(1.5 * tokens, unique) >= worth
    if tokens <= unique:
        assert worth == tokens


def test_the_worth_is_continuous_where_the_text_begins_again() -> None:
    assert effective_tokens(1e6 + 1, 1e6) == pytest.approx(1e6 + 1, rel=1e-9)
    assert effective_tokens(1e15, 1e6) == pytest.approx(1e6 * (1 + _HALF_LIFE))
