import math

import pytest

from groundup.plan.budget import parse_budget
from groundup.plan.cluster.answer import ClusterQuestion, cluster_answer
from groundup.plan.cluster.devices import parse_hardware
from groundup.plan.models import parse_shape
from groundup.plan.parameters import non_embedding, total
from groundup.recipe import Recipe, TrainRecipe
from tests.plan.formulas import check_formulas


def ask(budget: str, hardware: str = "h100x8", recipe: Recipe | None = None, **options: object) -> ClusterQuestion:
    asked = (recipe or Recipe(), parse_budget(budget), parse_hardware(hardware))
    return ClusterQuestion(*asked, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "question",
    [
        ask("10m", "h100x7"),
        ask("$500", text_bytes=1e10, region="fr"),
        ask("2h", text_bytes=1e9, law="many-epochs"),
        ask("2h", law="kaplan"),
        ask("5000steps", "a100x64"),
        ask("30Btok", "h100x512"),
        ask("2h", recipe=Recipe(train=TrainRecipe(precision="fp32"))),
    ],
)
def test_every_formula_gives_its_figure(question: ClusterQuestion) -> None:
    assert check_formulas(cluster_answer(question).figures) >= 10


def test_steps_are_taken_as_they_were_asked_for() -> None:
    for steps in (2000, 5000):
        values = cluster_answer(ask(f"{steps}steps", "a100x64")).as_json()
        assert values["steps"] == steps
        assert values["tokens"] == steps * values["batch_size"] * values["context"]


def test_a_batch_divides_over_an_odd_number_of_devices() -> None:
    values = cluster_answer(ask("2h", "h100x7")).as_json()
    assert values["data"] * values["tensor"] * values["context_parallel"] * values["pipeline"] == 7
    assert values["batch_size"] % values["data"] == 0


def test_text_that_is_read_often_is_worth_less() -> None:
    enough, little = (cluster_answer(ask("1d", text_bytes=size)) for size in (None, 4e9))
    assert little.as_json()["loss"] > enough.as_json()["loss"]
    assert little.as_json()["epochs"] > 4
    assert little.notes[0].startswith("text binds")


def test_electricity_is_as_dirty_as_its_region() -> None:
    values = {region: cluster_answer(ask("2h", region=region)).as_json() for region in ("fr", "pl")}
    assert values["fr"]["energy_kwh"] == values["pl"]["energy_kwh"]
    assert values["fr"]["co2_kg"] < values["pl"]["co2_kg"] / 4
    assert math.isfinite(values["fr"]["usd"])


def test_beside_given_tokens_stand_models_of_about_the_same_size() -> None:
    """The lowest loss would be that of the largest model, at many times the computation."""
    values = cluster_answer(ask("30Btok", "h100x64")).as_json()
    sizes = [row["parameters"] for row in values["alternatives"]]
    assert sizes[0] == values["parameters"]
    assert max(sizes) < 8 * values["parameters"]


def test_a_law_is_asked_with_the_parameters_that_its_runs_count() -> None:
    """Kaplan et al. 2020 leave embeddings out, Hoffmann et al. 2022 do not."""
    shape = parse_shape(None, "gpt2")
    for law, parameters in (("kaplan", non_embedding(shape)), ("besiroglu", total(shape))):
        figures = cluster_answer(ask("2h", shape=shape, law=law)).figures
        assert next(figure for figure in figures if figure.name == "loss").values["N"] == parameters
