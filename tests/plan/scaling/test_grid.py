import math
from itertools import pairwise

import pytest

from groundup.errors import UserError
from groundup.plan.budget import Budget
from groundup.plan.choose import Corpus
from groundup.plan.hardware import Hardware
from groundup.plan.scaling.grid import GridPoint, choose_grid
from groundup.recipe import Recipe


def grid(
    hardware: Hardware, corpus: Corpus, budget: Budget, runs: int = 8, longest: float = 60.0, **model: object
) -> list[GridPoint]:
    recipe = Recipe()
    recipe.model.context = 128
    for name, value in model.items():
        setattr(recipe.model, name, value)
    return choose_grid(recipe, budget, hardware, corpus, 4096, runs, longest)


@pytest.mark.parametrize("speed", [1.0, 20.0])
@pytest.mark.parametrize("minutes", [4.0, 8.0, 30.0])
@pytest.mark.parametrize("runs", [5, 8, 12])
def test_it_keeps_the_budget_and_reaches_far(
    speed: float, minutes: float, runs: int, hardware: Hardware, corpus: Corpus
) -> None:
    machine = Hardware(
        **vars(hardware)
        | {"flops_fp32": speed * hardware.flops_fp32, "flops_bf16": speed * hardware.flops_bf16}
        | {"memory_bandwidth": speed * hardware.memory_bandwidth}
    )
    points = grid(machine, corpus, Budget("seconds", 60 * minutes), runs)
    assert len(points) == runs
    assert sum(point.seconds for point in points) <= 60 * minutes
    assert max(point.seconds for point in points) <= 60.0 + 1.0
    sizes, tokens = ([getattr(point, name) for point in points] for name in ("parameters", "tokens"))
    assert max(sizes) / min(sizes) >= 8
    assert max(tokens) / min(tokens) >= 6
    assert len({(point.shape, point.tokens) for point in points}) == runs


def test_tokens_as_a_budget_are_kept(hardware: Hardware, corpus: Corpus) -> None:
    points = grid(hardware, corpus, Budget("tokens", 2e6), 6)
    assert sum(point.tokens for point in points) <= 2e6
    assert max(point.parameters for point in points) < 1e7
    assert all(point.tokens % point.shape.context == 0 for point in points)


@pytest.mark.parametrize(
    ("budget", "model", "expected"),
    [
        (Budget("seconds", 300), {"width": 64}, "leave model.num_layers and model.width unset"),
        (Budget("steps", 300), {}, "cannot be in steps"),
        (Budget("seconds", 20), {}, r"more, or fewer --runs|beside training|larger --budget"),
        (Budget("tokens", 2000), {}, r"larger --budget|larger --budget or"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    budget: Budget, model: dict[str, object], expected: str, hardware: Hardware, corpus: Corpus
) -> None:
    with pytest.raises(UserError, match=expected) as error:
        grid(hardware, corpus, budget, **model)
    assert "\n" not in str(error.value)


def test_lengths_of_a_size_are_evenly_apart(hardware: Hardware, corpus: Corpus) -> None:
    points = grid(hardware, corpus, Budget("seconds", 480), 9)
    smallest = sorted(point.tokens for point in points if point.parameters == points[0].parameters)
    ratios = [math.log(after / before) for before, after in pairwise(smallest)]
    assert max(ratios) / min(ratios) < 1.2
