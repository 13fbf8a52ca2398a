import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.plan.budget import Budget
from groundup.plan.choose import Corpus, Plan, choose
from groundup.plan.compile import Compilation
from groundup.plan.hardware import Hardware
from groundup.recipe import Recipe, TrainRecipe

HARDWARE = Hardware("", "cpu", 2, 24 << 30, 1.7e11, 8e11, 5e10)
CORPUS = Corpus(1e8, 3.6)


@given(st.floats(0, 100), st.floats(-0.5, 0.9), st.floats(1, 1e5), st.floats(1e-3, 1))
def test_it_pays_when_more_steps_are_taken_in_the_same_time(
    cost: float, saving: float, seconds: float, step: float
) -> None:
    eager, compiled = seconds / step, (seconds - cost) / (step * (1 - saving))
    if abs(compiled - eager) > 1e-6 * eager:
        assert Compilation(cost, saving).pays(seconds) == (compiled > eager)


def _plan(budget: Budget, compilation: Compilation | None, setting: str = "auto") -> Plan:
    recipe = Recipe(train=TrainRecipe(compile=setting))
    return choose(recipe, budget, HARDWARE, CORPUS, 4096, compilation=lambda _: compilation)


def test_a_long_run_is_compiled_and_a_short_one_is_not() -> None:
    cost = Compilation(10.0, 0.1)
    assert not _plan(Budget("seconds", 60), cost).compile
    assert _plan(Budget("seconds", 600), cost).compile
    assert not _plan(Budget("seconds", 600), None).compile
    assert not _plan(Budget("seconds", 600), cost, "off").compile
    assert _plan(Budget("seconds", 60), cost, "on").compile


def test_the_cost_is_part_of_the_time_and_the_saving_of_the_steps() -> None:
    eager, compiled = _plan(Budget("seconds", 600), None), _plan(Budget("seconds", 600), Compilation(10.0, 0.1))
    assert (eager.shape, eager.batch_size) == (compiled.shape, compiled.batch_size)
    assert compiled.steps == pytest.approx(eager.steps * 590 / 600 / 0.9, rel=0.01)
    assert compiled.train_seconds == pytest.approx(eager.train_seconds, rel=0.01)
    assert compiled.tokens_per_second == pytest.approx(compiled.eager_tokens_per_second / 0.9)
    assert compiled.eager_tokens_per_second == eager.tokens_per_second


def test_a_budget_of_steps_takes_less_time() -> None:
    budget, compilation = Budget("steps", 50_000), Compilation(10.0, 0.1)
    eager, compiled = _plan(budget, None), _plan(budget, compilation, "on")
    assert compiled.compile and compiled.steps == eager.steps
    assert compiled.train_seconds == pytest.approx(10 + 0.9 * eager.train_seconds)


@pytest.mark.parametrize("kind", ["steps", "tokens", "flops"])
def test_where_time_is_not_the_budget_the_recipe_alone_decides(kind: str) -> None:
    """The same recipe and seed give the same losses, whatever was measured."""
    budget = Budget(kind, {"steps": 50_000, "tokens": 1e9, "flops": 1e17}[kind])
    assert not _plan(budget, Compilation(1.0, 0.5)).compile


def test_what_is_asked_for_is_not_dropped_in_silence() -> None:
    with pytest.raises(UserError, match=r"compiling takes about 100 s .* train\.compile=off"):
        _plan(Budget("seconds", 60), Compilation(100.0, 0.1), "on")


def test_the_recipe_says_what_was_chosen() -> None:
    plan = _plan(Budget("seconds", 600), Compilation(10.0, 0.1))
    assert plan.resolve(Recipe()).train.compile == "on"
    assert _plan(Budget("seconds", 600), None).resolve(Recipe()).train.compile == "off"
