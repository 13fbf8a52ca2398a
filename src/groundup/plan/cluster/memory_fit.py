"""The constants of an engine, from peaks of memory that were measured."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt

from groundup.plan.cluster.layout import Layout
from groundup.plan.cluster.memory import FORMULAS_ALONE, MemoryConstants, device_memory
from groundup.plan.cluster.states import StateRecipe
from groundup.shape import Shape

# All fields but the source, in their order.
_NUMBERS = astuple(FORMULAS_ALONE)[:-1]
# Errors smaller than this share weigh the same: they are below what two runs of the same layout differ by.
_NOISE = 0.01
_ROUNDS, _SWEEPS = 30, 150


@dataclass(frozen=True)
class MeasuredMemory:
    """The peak that was measured on the devices of a pipeline `stage`, in bytes."""

    shape: Shape
    layout: Layout
    recipe: StateRecipe
    peak_bytes: float
    stage: int = 0


def calibrate(runs: Sequence[MeasuredMemory], source: str = "fitted") -> MemoryConstants:
    """The constants, none of them negative, with which the runs' peaks have the least sum of relative errors.

    Peaks are linear in the constants once it is known at which moment they are, so that moments and constants are
    found in turn; each fit is of least squares whose weights make it one of least absolute errors.
    """
    design = np.array([_moments(run) for run in runs]) / np.array([run.peak_bytes for run in runs])[:, None, None]
    constants = np.array(_NUMBERS)
    for _ in range(_ROUNDS):
        shares = design[..., 0] + design[..., 1:] @ constants
        peaks = shares.argmax(axis=1)
        rows = design[np.arange(len(runs)), peaks]
        errors = shares.max(axis=1) - 1.0
        weights = 1.0 / np.sqrt(np.abs(errors) + _NOISE)
        constants = _non_negative(weights[:, None] * rows[:, 1:], weights * (1.0 - rows[:, 0]), constants)
    return MemoryConstants(*constants.tolist(), source=source)


def _moments(run: MeasuredMemory) -> list[list[float]]:
    """For each moment the bytes that no constant changes, and those that one unit of each constant adds."""

    def totals(numbers: list[float]) -> list[float]:
        memory = device_memory(run.shape, run.layout, run.recipe, constants=MemoryConstants(*numbers))
        return [moment.total for moment in memory.stages[run.stage].moments.values()]

    known = totals([0.0] * len(_NUMBERS))
    units = [totals(numbers) for numbers in np.eye(len(_NUMBERS)).tolist()]
    return [
        [base, *(unit - base for unit in added)]
        for base, added in zip(known, zip(*units, strict=True), strict=True)
    ]


def _non_negative(
    matrix: npt.NDArray[np.float64], target: npt.NDArray[np.float64], start: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Non-negative least squares by coordinate descent, each column brought to length one."""
    lengths = np.linalg.norm(matrix, axis=0)
    lengths[lengths == 0.0] = 1.0
    gram, wanted = (matrix / lengths).T @ (matrix / lengths), (matrix / lengths).T @ target
    solution = start * lengths
    for _ in range(_SWEEPS):
        for column in range(len(solution)):
            step = (gram[column] @ solution - wanted[column]) / max(gram[column, column], 1e-12)
            solution[column] = max(0.0, solution[column] - step)
    return np.asarray(solution / lengths)
