from dataclasses import replace

import pytest

from groundup.errors import UserError
from groundup.plan.budget import parse_budget
from groundup.plan.hardware import Hardware
from groundup.plan.machine_answer import Question, machine_answer
from groundup.recipe import Recipe


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


def test_figures_follow_from_their_formulas(hardware: Hardware) -> None:
    figures = {figure.name: figure for figure in machine_answer(ask(hardware, "10m")).figures}
    flops, loss, tokens = (figures[name] for name in ("flops", "bits_per_byte", "tokens"))
    assert flops.values["D"] * flops.values["f"] == pytest.approx(flops.value)  # type: ignore[operator]
    assert tokens.values["S"] * tokens.values["B"] * tokens.values["T"] == tokens.value  # type: ignore[operator]
    v = {name: float(value) for name, value in loss.values.items()}  # type: ignore[arg-type]
    assert v["E"] + v["A"] / v["N"] ** v["alpha"] + v["B"] / v["D"] ** v["beta"] == pytest.approx(loss.value)


def test_more_budget_buys_less_loss_and_the_ranking_is_by_loss(hardware: Hardware) -> None:
    values = machine_answer(ask(hardware, "10m")).as_json()
    front = [row["bits_per_byte"] for row in values["front"]]
    assert len(front) >= 5
    assert front == sorted(front, reverse=True)
    others = [row["bits_per_byte"] for row in values["alternatives"]]
    assert others == sorted(others)
    assert others[0] == pytest.approx(values["bits_per_byte"])


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
    bought = machine_answer(ask(hardware, "$0.5", usd_per_hour=1.0)).as_json()
    assert bought["parameters"] == machine_answer(ask(hardware, "30m")).as_json()["parameters"]


def test_an_impossible_budget_is_one_line(hardware: Hardware) -> None:
    with pytest.raises(UserError, match="too little"):
        machine_answer(ask(hardware, "0.01s"))
