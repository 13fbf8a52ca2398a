import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.plan.candidates import (
    batch_tokens_for,
    context_for,
    ladder,
    learning_rate_for,
    vocabulary_for,
)
from groundup.plan.parameters import total
from groundup.recipe import ModelRecipe


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_the_ladder_climbs(family: str) -> None:
    shapes = ladder(ModelRecipe(family=family), vocabulary_size=2048, context=256)
    sizes = [total(shape) for shape in shapes]
    assert len(sizes) > 10
    assert sizes == sorted(set(sizes))
    for shape in shapes:
        assert shape.num_heads * shape.head_width == shape.width
        assert (shape.family, shape.vocabulary_size, shape.context) == (family, 2048, 256)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3", "qwen3_moe"])
def test_both_feedforwards_have_about_as_many_parameters(family: str) -> None:
    """4 widths twice, or 8/3 widths three times: 8 width^2 (Shazeer 2020)."""
    for shape in ladder(ModelRecipe(family=family), 2048, 256):
        matrices = 2 if family == "gpt2" else 3
        parameters = matrices * shape.width * shape.feedforward_width
        assert 1 <= parameters / (8 * shape.width**2) < 1.2


def test_experts_are_as_the_recipe_says() -> None:
    """The width of one times those of a token is the feed-forward width; a plan's recipe gives the same shapes."""
    recipe = ModelRecipe(family="qwen3_moe", num_experts=12, experts_per_token=3, expert_width=40)
    for shape in ladder(recipe, 2048, 256):
        found = (shape.num_experts, shape.experts_per_token, shape.expert_width, shape.feedforward_width)
        assert found == (12, 3, 40, 120)
        resolved = ModelRecipe(**{name: getattr(shape, name) for name in ModelRecipe.model_fields})
        assert ladder(resolved, 2048, 256) == [shape]
    with pytest.raises(UserError, match="expert_width=40 times 3 experts a token is 120, not "):
        ladder(recipe.model_copy(update={"feedforward_width": 100}), 2048, 256)
    with pytest.raises(UserError, match="qwen3 has no experts"):
        ladder(ModelRecipe(num_experts=4), 2048, 256)


@pytest.mark.parametrize(
    "fixed",
    [
        {"num_layers": 7},
        {"width": 192},
        {"width": 192, "num_heads": 6},
        {"width": 192, "num_kv_heads": 1},
        {"head_width": 16},
        {"num_kv_heads": 1},
        {"feedforward_width": 100},
        {"context": 64},
        {"tied": False},
        {"rope_theta": 5e5},
        {"num_layers": 3, "width": 80, "num_heads": 10, "num_kv_heads": 5, "head_width": 12},
    ],
)
def test_what_is_fixed_stays_fixed(fixed: dict[str, object]) -> None:
    shapes = ladder(ModelRecipe.model_validate(fixed), 2048, 256)
    assert shapes
    assert len(shapes) == len(set(shapes))
    assert all(getattr(shape, name) == value for shape in shapes for name, value in fixed.items())


@pytest.mark.parametrize(
    "fixed", [{"num_heads": 6}, {"num_kv_heads": 2}, {"num_kv_heads": 4}, {"family": "gpt2", "head_width": 64}]
)
def test_rungs_that_do_not_fit_what_is_fixed_are_left_out(fixed: dict[str, object]) -> None:
    shapes = ladder(ModelRecipe.model_validate(fixed), 2048, 256)
    assert all(getattr(shape, name) == value for shape in shapes for name, value in fixed.items())


@pytest.mark.parametrize(
    ("fixed", "named"),
    [
        ({"width": 64, "num_heads": 5}, "model.width=64"),
        ({"width": 41}, "head_width=41 is odd"),
        ({"width": 64, "num_heads": 4, "num_kv_heads": 3}, "model.num_kv_heads=3"),
        ({"family": "gpt2", "width": 64, "num_heads": 4, "num_kv_heads": 2}, "gpt2 needs"),
        ({"family": "nonesuch"}, "unknown model family 'nonesuch'"),
    ],
)
def test_what_cannot_be_is_refused(fixed: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=named):
        ladder(ModelRecipe.model_validate(fixed), 2048, 256)


@given(st.floats(1e3, 1e14), st.floats(1.0, 100.0))
def test_the_rules_grow_with_the_tokens(tokens: float, factor: float) -> None:
    assert context_for(tokens * factor) >= context_for(tokens)
    assert vocabulary_for(tokens * factor, 1e12) >= vocabulary_for(tokens, 1e12)
    assert batch_tokens_for(tokens * factor) >= batch_tokens_for(tokens)


@given(st.floats(1e3, 1e14), st.floats(1, 1e14))
def test_each_entry_of_the_vocabulary_is_seen(tokens: float, corpus_bytes: float) -> None:
    vocabulary = vocabulary_for(tokens, corpus_bytes)
    assert vocabulary == 512 or (vocabulary * 1000 <= tokens and vocabulary * 500 <= corpus_bytes)


@given(st.floats(1e5, 1e13))
def test_the_batch_grows_as_the_step_law_says(tokens: float) -> None:
    """Li et al. 2025: with the power 0.571 of the tokens, so that the steps grow too."""
    assert batch_tokens_for(8 * tokens) / batch_tokens_for(tokens) == pytest.approx(8**0.571)


@given(st.integers(10**6, 10**11), st.integers(64, 4096))
def test_the_learning_rate_falls_with_the_size_and_rises_with_the_root_of_the_batch_but_for_muon(
    parameters: int, batch_tokens: int
) -> None:
    for optimizer, growth, highest in (("adamw", 2, 1.2e-2), ("lion", 2, 1.2e-2), ("muon", 1, 2.4e-2)):
        rate = learning_rate_for(parameters, batch_tokens, optimizer)
        assert learning_rate_for(2 * parameters, batch_tokens, optimizer) < rate < highest
        larger = learning_rate_for(parameters, 4 * batch_tokens, optimizer)
        assert larger == pytest.approx(min(growth * rate, highest))
