import json
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.plan.budget import Budget
from groundup.plan.choose import Corpus, Plan, choose, choose_vocabulary, text_limit
from groundup.plan.flops import train_flops_per_token
from groundup.plan.hardware import Hardware
from groundup.plan.memory import train_bytes
from groundup.plan.parameters import non_embedding, total
from groundup.recipe import Recipe, TrainRecipe
from groundup.shape import Shape

# Budgets of each kind, from a minute to days on the machine of `hardware`.
BUDGETS = [
    *(Budget("seconds", amount) for amount in (60.0, 600.0, 1e5)),
    *(Budget("flops", amount) for amount in (1e13, 1e15, 1e18)),
    *(Budget("tokens", amount) for amount in (1e6, 5e7, 1e9)),
    *(Budget("steps", amount) for amount in (1.0, 500.0, 5000.0)),
]


def _recipe(**sections: dict[str, Any]) -> Recipe:
    return Recipe.model_validate(sections)


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_a_plan_keeps_its_budget_and_agrees_with_itself(
    budget: Budget, hardware: Hardware, corpus: Corpus
) -> None:
    plan = choose(Recipe(), budget, hardware, corpus, 2048)
    spent = {"seconds": plan.train_seconds, "flops": plan.flops, "tokens": plan.tokens, "steps": plan.steps}
    assert 0 < spent[budget.kind] <= budget.amount * (1 + 1e-9)
    assert spent["steps"] >= (1 if budget.kind == "steps" else 20)
    assert plan.tokens == plan.steps * plan.batch_size * plan.shape.context
    assert plan.flops == pytest.approx(plan.tokens * train_flops_per_token(plan.shape))
    assert plan.train_seconds == pytest.approx(plan.tokens / plan.tokens_per_second)
    assert plan.epochs == pytest.approx(plan.tokens * 3.6 / 1e8)
    assert (plan.parameters, plan.non_embedding_parameters) == (total(plan.shape), non_embedding(plan.shape))
    assert plan.bits_per_byte_low < plan.bits_per_byte < plan.bits_per_byte_high
    assert plan.shape.vocabulary_size == 2048
    assert plan.batch_size % plan.micro_batch == 0
    assert plan.peak_bytes == train_bytes(plan.shape, plan.micro_batch, plan.precision, batch_size=plan.batch_size)
    assert plan.peak_bytes <= hardware.memory_bytes


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_a_step_costs_less_than_what_is_left_over(budget: Budget, hardware: Hardware, corpus: Corpus) -> None:
    """The budget is used up: one step more would exceed it."""
    plan = choose(Recipe(), budget, hardware, corpus, 2048)
    spent = {"seconds": plan.train_seconds, "flops": plan.flops, "tokens": plan.tokens, "steps": plan.steps}
    assert spent[budget.kind] * (plan.steps + 1) / plan.steps > budget.amount


def test_bits_per_byte_are_the_least_among_the_ladder(hardware: Hardware, corpus: Corpus) -> None:
    """No other depth and width, planned on its own, promises less."""
    budget = Budget("seconds", 600.0)
    best = choose(Recipe(), budget, hardware, corpus, 2048)
    for layers, width in ((2, 64), (3, 96), (4, 128), (4, 160), (5, 192), (6, 256), (6, 320), (7, 384)):
        alone = _recipe(model={"num_layers": layers, "width": width})
        assert choose(alone, budget, hardware, corpus, 2048).bits_per_byte >= best.bits_per_byte


@settings(max_examples=60, deadline=None)
@given(
    num_layers=st.none() | st.integers(1, 8),
    width=st.none() | st.sampled_from([32, 64, 96, 160, 256]),
    feedforward_width=st.none() | st.integers(8, 600),
    context=st.none() | st.integers(8, 600),
    tied=st.booleans(),
    batch_size=st.none() | st.integers(1, 64),
    lr=st.none() | st.floats(1e-5, 1e-1),
    precision=st.sampled_from(["auto", "fp32", "bf16"]),
    budget=st.sampled_from([Budget("seconds", 900.0), Budget("tokens", 3e7), Budget("flops", 1e15)]),
)
def test_fixed_fields_are_respected(budget: Budget, **fields: Any) -> None:
    hardware = Hardware("a processor", "cpu", 2, 16 << 30, 2e11, 6e11, 3e10)
    model = {name: fields[name] for name in ("num_layers", "width", "feedforward_width", "context", "tied")}
    train = {name: fields[name] for name in ("batch_size", "lr", "precision")}
    recipe = _recipe(model=model, train=train)
    plan = choose(recipe, budget, hardware, Corpus(1e8, 3.6), 1024)
    resolved = plan.resolve(recipe)
    for name, value in model.items():
        assert value is None or getattr(plan.shape, name) == value
        assert getattr(resolved.model, name) == getattr(plan.shape, name)
    for name, value in train.items():
        assert value in {None, "auto"} or getattr(plan, name) == value
        assert getattr(resolved.train, name) == getattr(plan, name)


@pytest.mark.parametrize(
    ("family", "missing"),
    [("qwen3", ["num_experts", "experts_per_token", "expert_width"]), ("qwen3_moe", [])],
)
def test_a_resolved_recipe_has_every_field(
    family: str, missing: list[str], hardware: Hardware, corpus: Corpus
) -> None:
    """But those that its family has not."""
    recipe = Recipe(model={"family": family})
    plan = choose(recipe, Budget("seconds", 600.0), hardware, corpus, 2048)
    resolved = plan.resolve(recipe)
    assert [name for name, value in resolved.model if value is None] == missing
    assert resolved.tokenizer.vocabulary_size == 2048
    assert not [name for name in ("batch_size", "micro_batch", "lr") if getattr(resolved.train, name) is None]
    assert resolved.train.precision == plan.precision
    assert recipe == Recipe(model={"family": family})  # the recipe that was given is as before


@pytest.mark.parametrize("gigabytes", [1, 2, 4, 8, 64])
@pytest.mark.parametrize("budget", [Budget("seconds", 1e6), Budget("flops", 1e18)], ids=str)
def test_memory_is_respected(budget: Budget, gigabytes: int, hardware: Hardware, corpus: Corpus) -> None:
    machine = replace(hardware, memory_bytes=gigabytes << 30)
    plan = choose(Recipe(), budget, machine, corpus, 2048)
    assert plan.peak_bytes <= 0.6 * machine.memory_bytes


def test_more_memory_never_promises_less(hardware: Hardware, corpus: Corpus) -> None:
    losses = [
        choose(Recipe(), Budget("seconds", 1e6), replace(hardware, memory_bytes=size << 30), corpus, 2048)
        for size in (1, 2, 4, 8, 64)
    ]
    assert all(less.bits_per_byte >= more.bits_per_byte for less, more in pairwise(losses))


@pytest.mark.parametrize(
    ("budget", "gigabytes"), [(Budget("tokens", 1e9), 2), (Budget("steps", 20_000), 2)], ids=str
)
def test_too_large_an_optimum_gives_way_to_what_fits(
    budget: Budget, gigabytes: int, hardware: Hardware, corpus: Corpus
) -> None:
    machine = replace(hardware, memory_bytes=gigabytes << 30)
    assert choose(Recipe(), budget, machine, corpus, 2048).peak_bytes <= 0.6 * machine.memory_bytes


def test_a_fixed_micro_batch_that_does_not_fit_is_refused(hardware: Hardware, corpus: Corpus) -> None:
    recipe = _recipe(
        model={"num_layers": 8, "width": 512, "context": 2048}, train={"batch_size": 512, "micro_batch": 512}
    )
    with pytest.raises(UserError):
        choose(recipe, Budget("seconds", 1e6), replace(hardware, memory_bytes=2 << 30), corpus, 2048)


def _losses(recipe: Recipe, kind: Any, amounts: np.ndarray, hardware: Hardware, corpus: Corpus) -> list[float]:
    budgets = [Budget(kind, float(amount)) for amount in amounts]
    return [choose(recipe, budget, hardware, corpus, 2048).bits_per_byte for budget in budgets]


def _never_rises(values: list[float]) -> bool:
    return all(later <= earlier for earlier, later in pairwise(values))


@pytest.mark.parametrize("kind", ["seconds", "flops", "tokens", "steps"])
@pytest.mark.parametrize("batch_size", [16])
def test_more_budget_never_promises_less_with_the_same_context(
    kind: str, batch_size: int, hardware: Hardware, corpus: Corpus
) -> None:
    recipe = _recipe(model={"context": 256}, train={"batch_size": batch_size})
    first, last = {"seconds": (20, 1e6), "flops": (1e13, 1e18), "tokens": (1e6, 1e9), "steps": (20, 5e3)}[kind]
    amounts = np.geomspace(first, last, 150).round()
    assert _never_rises(_losses(recipe, kind, amounts, hardware, corpus))


@pytest.mark.parametrize(
    "budget", [Budget("seconds", 0.01), Budget("flops", 1e6), Budget("tokens", 100.0)], ids=str
)
def test_too_little_is_refused(budget: Budget, hardware: Hardware, corpus: Corpus) -> None:
    with pytest.raises(UserError, match="too little for 20 steps of any model") as error:
        choose(Recipe(), budget, hardware, corpus, 2048)
    assert "\n" not in str(error.value)


def test_measured_steps_decide(hardware: Hardware, corpus: Corpus) -> None:
    """A shape that turns out fast wins, and what it promises rests on the measured time."""
    budget, asked = Budget("seconds", 600.0), []

    def slow_but(favourite: Shape | None) -> Plan:
        def measured(shape: Shape, batch_size: int, settings: TrainRecipe) -> float:
            asked.append((shape, batch_size, settings.micro_batch))
            return 0.01 if shape == favourite else 5.0

        return choose(Recipe(), budget, hardware, corpus, 2048, measured_step_seconds=measured)

    slow_but(None)
    for shape in {shape for shape, _, _ in asked}:
        plan = slow_but(shape)
        assert plan.shape == shape
        assert plan.steps == pytest.approx(600 / 0.01, abs=1)
        assert (plan.shape, plan.batch_size, plan.micro_batch) in asked


@settings(max_examples=30, deadline=None)
@given(st.floats(30, 1e6), st.sampled_from(["gpt2", "llama", "qwen3"]))
def test_plans_go_through_json(seconds: float, family: str) -> None:
    hardware = Hardware("a processor", "cpu", 2, 16 << 30, 2e11, 6e11, 3e10)
    recipe = _recipe(model={"family": family})
    plan = choose(recipe, Budget("seconds", seconds), hardware, Corpus(1e8, 3.6), 2048)
    written = json.loads(json.dumps(plan.as_json() | {"stages": {"read": 1.0}}, allow_nan=False))
    assert Plan.from_json(written) == plan


def test_the_vocabulary_of_the_recipe_is_kept(hardware: Hardware) -> None:
    fixed = _recipe(tokenizer={"vocabulary_size": 777})
    assert choose_vocabulary(fixed, Budget("seconds", 60), hardware, 1e8) == 777


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_the_text_limit_is_enough_and_a_power_of_two(budget: Budget, hardware: Hardware, corpus: Corpus) -> None:
    limit = text_limit(budget, hardware)
    assert math.log2(limit).is_integer()
    plan = choose(Recipe(), budget, hardware, replace(corpus, train_bytes=1e15), 2048)
    assert limit >= plan.tokens * 3.6 / 2  # "within a factor of about two"
