from dataclasses import replace

import pytest

from groundup.errors import UserError
from groundup.plan.budget import parse_budget
from groundup.plan.hardware import Hardware
from groundup.plan.machine_answer import Question, machine_answer
from groundup.recipe import Recipe
from tests.plan.formulas import check_formulas


def ask(hardware: Hardware, budget: str, **options: object) -> Question:
    return Question(Recipe(), parse_budget(budget), hardware, **options)  # type: ignore[arg-type]


def test_the_answer_is_the_plan_that_build_would_make(hardware: Hardware) -> None:
    question = ask(hardware, "10m", corpus_bytes=1e8)
    plan, values = question.plan(), machine_answer(question).as_json()
    for name in (
        "parameters",
        "tokens",
        "steps",
        "batch_size",
        "lr",
        "peak_bytes",
        "train_seconds",
        "bits_per_byte",
    ):
        assert values[name] == getattr(plan, name)
    assert values["bits_per_byte_low"] < values["bits_per_byte"] < values["bits_per_byte_high"]
    assert values["train_seconds"] <= 600
    assert values["flops"] == pytest.approx(plan.flops)


@pytest.mark.parametrize(
    ("budget", "options", "train"),
    [
        ("10m", {}, {}),
        ("1s", {}, {}),
        ("10m", {"corpus_bytes": 1e6}, {"optimizer": "adamw"}),
        ("5steps", {}, {}),
        ("10m", {"peak_factor": 1.3}, {"lr": 0.01, "batch_size": 12, "micro_batch": 4}),
    ],
)
def test_every_formula_gives_its_figure(
    hardware: Hardware, budget: str, options: dict[str, float], train: dict[str, object]
) -> None:
    recipe = Recipe()
    recipe.train = recipe.train.model_copy(update=train)
    question = replace(ask(hardware, budget, **options), recipe=recipe)
    assert check_formulas(machine_answer(question).figures) >= 8


def test_any_number_of_steps_has_a_plan(hardware: Hardware) -> None:
    for steps in (1, 5, 100):
        assert machine_answer(ask(hardware, f"{steps}steps")).as_json()["steps"] == steps


def test_text_binds_only_where_there_is_a_limit_to_it(hardware: Hardware) -> None:
    answer = machine_answer(ask(replace(hardware, memory_bytes=1 << 40), "1Ttok"))
    assert answer.notes[0].startswith("tokens bind")
    assert "epochs" not in answer.as_json()


def test_more_budget_buys_less_loss_and_the_ranking_is_by_loss(hardware: Hardware) -> None:
    values = machine_answer(ask(hardware, "10m")).as_json()
    front = [row["bits_per_byte"] for row in values["front"]]
    assert len(front) >= 5
    assert front == sorted(front, reverse=True)
    others = [row["bits_per_byte"] for row in values["alternatives"]]
    assert others == sorted(others)
    assert others[0] == pytest.approx(values["bits_per_byte"])


@pytest.mark.parametrize("budget", ["30Mtok", "5000steps"])
def test_beside_given_tokens_stand_models_of_about_the_same_size(hardware: Hardware, budget: str) -> None:
    """The lowest loss would be that of the largest model, at many times the computation."""
    values = machine_answer(ask(hardware, budget)).as_json()
    sizes = [row["parameters"] for row in values["alternatives"]]
    assert sizes[0] == values["parameters"]
    assert max(sizes) < 8 * values["parameters"]


def test_what_binds_is_named(hardware: Hardware) -> None:
    def first_note(question: Question) -> str:
        return machine_answer(question).notes[0]

    assert first_note(ask(hardware, "10m")).startswith("time binds")
    assert first_note(ask(hardware, "10m", corpus_bytes=1e6)).startswith("text binds")
    small = replace(hardware, memory_bytes=900 << 20)
    assert first_note(ask(small, "30h")).startswith("memory binds")


def test_money_needs_a_price_and_buys_hours(hardware: Hardware) -> None:
    with pytest.raises(UserError, match="--price"):
        machine_answer(ask(hardware, "$5"))
    with pytest.raises(UserError, match="--price 0 is no price"):
        machine_answer(ask(hardware, "$5", usd_per_hour=0.0))
    bought = machine_answer(ask(hardware, "$0.5", usd_per_hour=1.0)).as_json()
    assert bought["parameters"] == machine_answer(ask(hardware, "30m")).as_json()["parameters"]
    assert bought["usd"] == pytest.approx(bought["train_seconds"] / 3600)


def test_electricity_is_as_dirty_as_its_region(hardware: Hardware) -> None:
    clean, dirty = (machine_answer(ask(hardware, "10m", region=region)).as_json() for region in ("fr", "pl"))
    assert clean["energy_kwh"] == dirty["energy_kwh"]
    assert clean["co2_kg"] < dirty["co2_kg"] / 4
    with pytest.raises(UserError, match="unknown region 'mars'"):
        machine_answer(ask(hardware, "10m", region="mars"))


def test_an_impossible_budget_is_one_line(hardware: Hardware) -> None:
    with pytest.raises(UserError, match="too little"):
        machine_answer(ask(hardware, "0.01s"))
