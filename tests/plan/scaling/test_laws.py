import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.plan.scaling import published
from groundup.plan.scaling.laws import Law, TiedLaw, form, law_from_json, lowest
from tests.plan.scaling.conftest import LAWS

SIZES, TOKENS = st.floats(1e4, 1e12), st.floats(1e6, 1e14)
ANY_LAW = st.sampled_from([*LAWS.values(), published.BESIROGLU, published.KAPLAN])


def test_hoffmanns_rounded_law_gives_the_terms_of_the_paper() -> None:
    """Gopher and Chinchilla: three terms, each rounded to three digits (Hoffmann et al. 2022, table A3)."""
    law = published.HOFFMANN_ROUNDED
    assert law.loss(280e9, 300e9) == pytest.approx(1.69 + 0.052 + 0.251, abs=1e-3)
    assert law.loss(70e9, 1.4e12) == pytest.approx(1.69 + 0.083 + 0.163, abs=1e-3)


@pytest.mark.parametrize(
    ("law", "tokens_per_parameter"),
    [(published.HOFFMANN_ROUNDED, 93), (published.HOFFMANN, 59), (published.BESIROGLU, 18)],
)
def test_what_each_law_asks_for_at_chinchillas_budget(law: Law, tokens_per_parameter: float) -> None:
    best = law.optimal(5.76e23)
    assert best.tokens / best.parameters == pytest.approx(tokens_per_parameter, rel=0.03)


def test_no_name_leads_to_the_rounded_law() -> None:
    assert published.HOFFMANN_ROUNDED not in published.PUBLISHED.values()
    assert published.DEFAULT is published.published("besiroglu")
    with pytest.raises(UserError, match="did you mean 'hoffmann'"):
        published.published("hofmann")


@given(ANY_LAW, st.floats(1e14, 1e26))
def test_the_optimum_in_closed_form_is_the_one_that_a_search_finds(law: Law, flops: float) -> None:
    best = law.optimal(flops)
    searched = lowest(lambda size: law.loss(size, flops / (6 * size)), best.parameters / 50, best.parameters * 50)
    assert best.parameters * best.tokens * 6 == pytest.approx(flops)
    assert best.loss <= law.loss(searched, flops / (6 * searched)) * (1 + 1e-12)
    assert best.parameters == pytest.approx(searched, rel=1e-3)


@given(ANY_LAW, st.floats(1e16, 1e24))
def test_the_size_for_given_tokens_is_that_of_the_budget_which_buys_them(law: Law, flops: float) -> None:
    best = law.optimal(flops)
    assert law.parameters_for(best.tokens) == pytest.approx(best.parameters, rel=1e-6)


@given(ANY_LAW, SIZES, TOKENS, st.floats(1.1, 100))
def test_more_parameters_and_tokens_lower_the_loss(
    law: Law, parameters: float, tokens: float, factor: float
) -> None:
    loss = law.loss(parameters, tokens)
    assert law.irreducible < loss
    assert law.loss(factor * parameters, tokens) < loss
    assert law.loss(parameters, factor * tokens) < loss


@given(st.floats(0.05, 0.6), st.floats(1, 1e3), st.floats(1, 1e3), SIZES, TOKENS)
def test_the_tied_form_is_gadres(eta: float, a: float, b: float, parameters: float, tokens: float) -> None:
    flops, ratio = 6 * parameters * tokens, tokens / parameters
    gadre = 1.5 + (a * ratio**eta + b * ratio**-eta) * flops**-eta
    law = TiedLaw(1.5, a * 6**-eta, 2 * eta, b * 6**-eta, 2 * eta)
    assert law.loss(parameters, tokens) == pytest.approx(gadre)


def test_kaplans_law_has_his_limits() -> None:
    """L(N) alone and L(D) alone are power laws with the constants of the joint one (equations 1.1 and 1.2)."""
    law = published.KAPLAN
    assert law.loss(1e9, 1e40) == pytest.approx((6.4e13 / 1e9) ** 0.076)
    assert law.loss(1e40, 1e9) == pytest.approx((1.8e13 / 1e9) ** 0.103)


@pytest.mark.parametrize("law", [*LAWS.values(), published.MANY_EPOCHS])
def test_a_law_survives_json(law: Law) -> None:
    assert law_from_json(law.as_json()) == law


def test_an_unknown_form_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'kaplan'"):
        form("kaplann")


def test_every_published_law_says_where_it_is_from() -> None:
    for law in published.PUBLISHED.values():
        assert "arXiv" in law.origin
        assert all(math.isfinite(value) for value in law.constants)
