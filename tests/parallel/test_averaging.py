"""The average of weights that are divided over processes is that of one device."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from groundup.model.registry import build
from groundup.objective import CAUSAL
from groundup.parallel.divided import whole
from groundup.parallel.grid import Grid
from groundup.recipe import ParallelRecipe
from groundup.train.averaging import WeightAverage
from groundup.train.step import TrainStep, lay_out
from tests.parallel.processes import run
from tests.parallel.test_many_devices import layout
from tests.parallel.training import LR, SEED, Case, settings, small_shape, windows

_CASES = {
    "data": Case(layout(data=2)),
    "zero 2": Case(layout(data=2, zero=2)),
    "zero 3": Case(layout(data=2, zero=3)),
    "tensor": Case(layout(tensor=2)),
    "pipeline": Case(layout(pipeline=2)),
}


class _Averaged(NamedTuple):
    held_out: float
    loss_after: float
    weights: dict[str, Tensor]


def _alone() -> _Averaged:
    case, objective = _CASES["data"], CAUSAL
    train = settings(case, 4)
    step = TrainStep(build(small_shape(case), SEED), objective, train, precision="fp32", device="cpu")

    def held_out() -> float:
        with torch.no_grad():
            return float(objective.loss(step.model, objective.collate(windows()[-1][:4])).mean)

    return _average(step, held_out)


def _together(_rank: int, cases: dict[str, Case]) -> dict[str, _Averaged]:
    return {name: _on_this(case) for name, case in cases.items()}


def _on_this(case: Case) -> _Averaged:
    objective, train = CAUSAL, settings(case, case.layout.micro_batch)
    parallel = ParallelRecipe(zero=case.layout.zero)
    grid = Grid(case.layout, "cpu")
    devices = lay_out(
        small_shape(case), objective, train, parallel, grid, precision="fp32", device="cpu", seed=SEED
    )
    step = TrainStep(devices.model, objective, train, precision="fp32", device="cpu", devices=devices)
    return _average(step, lambda: devices.evaluate(windows()[-1][:4], 2)[0])


def _average(step: TrainStep, held_out: Callable[[], float]) -> _Averaged:
    """Five steps; the average's held-out loss; a step more, which must not have noticed; the average for good."""
    average = WeightAverage(step.model, 0.8)
    for number, batch in enumerate(windows()[:5], 1):
        step(batch, LR)
        average.update(number)
    with average.in_place():
        measured = held_out()
    loss_after = step(windows()[5], LR).loss
    average.adopt()
    return _Averaged(measured, loss_after, {name: whole(p.detach()) for name, p in step.model.named_parameters()})


@pytest.fixture(scope="module")
def by_rank() -> list[dict[str, _Averaged]]:
    made: list[dict[str, _Averaged]] = run(2, _together, _CASES)
    return made


@pytest.mark.parametrize("name", _CASES)
def test_the_average_is_that_of_one_device(by_rank: list[dict[str, _Averaged]], name: str) -> None:
    one = _alone()
    for part in by_rank:
        assert part[name].held_out == pytest.approx(one.held_out, rel=1e-5)
        assert part[name].loss_after == pytest.approx(one.loss_after, rel=1e-5)
        for weight, value in part[name].weights.items():
            torch.testing.assert_close(value, one.weights[weight], rtol=0, atol=5e-5)
    assert {weight for part in by_rank for weight in part[name].weights} == one.weights.keys()
