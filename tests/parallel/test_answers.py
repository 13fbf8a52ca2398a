"""What is learnt from answers, whose tokens are unevenly many: the same step on two processes as on one."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch

from groundup.model.registry import build
from groundup.objective import Objective, Setting
from groundup.objective.preference import preference
from groundup.objective.turns import supervised
from groundup.parallel.grid import Grid
from groundup.recipe import ParallelRecipe, TrainRecipe
from groundup.recipe_stages import DpoRecipe
from groundup.train.step import TrainStep, lay_out
from tests.objective.rows import preference_rows
from tests.parallel.processes import run
from tests.parallel.test_many_devices import layout
from tests.parallel.training import LR, SEED, Case, settings, small_shape

CASES = {
    "supervised, data": Case(layout(data=2)),
    "supervised, zero 3": Case(layout(data=2, zero=3), tied=False),
    "preference, data": Case(layout(data=2)),
    "supervised, tensor": Case(layout(tensor=2, sequence=False)),
    "preference, tensor": Case(layout(tensor=2, sequence=False)),
    "preference, untied tensor": Case(layout(tensor=2, sequence=False), "llama", tied=False),
}


class Steps(NamedTuple):
    """Two steps."""

    losses: list[float]
    norms: list[float]
    targets: list[int]


def _task(name: str) -> tuple[Objective, npt.NDArray[np.int64]]:
    """In supervised rows the first half, which is the first process's, has one target a row, and one row none."""
    pairs = preference_rows(8)
    if name.startswith("preference"):
        return preference(DpoRecipe(loss="simpo", beta=2.0)), pairs
    rows = pairs[:, 0].copy()
    for row in rows[:4]:
        row[1, : np.flatnonzero(row[1])[-1]] = 0
    rows[1, 1] = 0
    return supervised(Setting()), rows


def _take(step: TrainStep, rows: npt.NDArray[np.int64]) -> Steps:
    results = [step(rows, LR), step(rows, LR)]
    return Steps(
        [result.loss for result in results],
        [result.grad_norm for result in results],
        [result.num_targets for result in results],
    )


def together(_rank: int) -> dict[str, Steps]:
    return {name: _on_this(name, case) for name, case in CASES.items()}


def _on_this(name: str, case: Case) -> Steps:
    objective, rows = _task(name)
    train = settings(case, case.layout.micro_batch)
    devices = lay_out(
        small_shape(case), objective, train, ParallelRecipe(zero=case.layout.zero), Grid(case.layout, "cpu"),
        precision="fp32", device="cpu", seed=SEED,
    )  # fmt: skip
    return _take(_step(devices.model, objective, train, devices=devices), rows)


def _step(model: torch.nn.Module, objective: Objective, train: TrainRecipe, **options: Any) -> TrainStep:
    return TrainStep(model, objective, train, precision="fp32", device="cpu", **options)


@pytest.fixture(scope="module")
def parts() -> list[dict[str, Steps]]:
    found: list[dict[str, Steps]] = run(2, together)
    return found


@pytest.mark.parametrize("name", CASES)
def test_losses_norms_and_counts_are_those_of_one_device(parts: list[dict[str, Steps]], name: str) -> None:
    objective, rows = _task(name)
    torch.set_num_threads(1)
    alone = _take(_step(build(small_shape(CASES[name]), SEED), objective, settings(CASES[name], 8)), rows)
    for part in parts:
        assert part[name].losses == pytest.approx(alone.losses, rel=1e-5)
        assert part[name].norms == pytest.approx(alone.norms, rel=1e-4)
        assert part[name].targets == alone.targets
