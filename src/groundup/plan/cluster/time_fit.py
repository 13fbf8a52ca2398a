"""The constants of devices, network and software, from throughputs that were measured."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt

from groundup.plan.cluster.devices import Cluster
from groundup.plan.cluster.layout import Layout
from groundup.plan.cluster.states import StateRecipe
from groundup.plan.cluster.time import H100_NANOTRON, TimeConstants, TimeModel
from groundup.shape import Shape

# A layout that reaches this share of the best of its cell weighs this power of it: where the choice is between the
# best, it does not matter by how much the formulas miss the worst, many of which hung.
_POWER = 3
# Errors much larger than this share hardly count: the run was not what the formulas describe.
_PLAUSIBLE = 0.05
# How strongly a constant is held to where it started, in logarithms.
_HOLD = 0.3
_SHARES = ("matmul", "attention", "memory", "link", "network", "overlap")
_HIGHEST_SHARE = 0.95
# Known from elsewhere, or not told apart by such runs.
_FIXED = ("attention", "memory", "overlap")


@dataclass(frozen=True)
class MeasuredTime:
    """Tokens a second of all devices of `cluster` together."""

    shape: Shape
    layout: Layout
    cluster: Cluster
    recipe: StateRecipe
    tokens_per_second: float


def calibrate(
    runs: Sequence[MeasuredTime], start: TimeConstants = H100_NANOTRON, source: str = "fitted"
) -> TimeConstants:
    """The constants with which the runs' throughputs are missed least, the fast ones of each cell above all.

    A cell is what can be chosen among: one shape on one number of devices. Logarithms of ratios are fitted with
    Cauchy's loss, which lets go of runs that hung.
    """
    from scipy.optimize import least_squares

    names = [name for name in asdict(start) if name not in {*_FIXED, "source"}]
    first = np.log([getattr(start, name) for name in names])
    wanted = np.log([run.tokens_per_second for run in runs])
    weights = np.sqrt(_weights(runs))

    def constants(logarithms: npt.NDArray[np.float64]) -> TimeConstants:
        values = dict(zip(names, np.exp(logarithms).tolist(), strict=True))
        return replace(start, **values, source=source)

    def errors(logarithms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        planned = np.log(throughputs(runs, constants(logarithms)))
        return np.concatenate([weights * (planned - wanted), _PLAUSIBLE * _HOLD * (logarithms - first)])

    highest = [math.log(_HIGHEST_SHARE) if name in _SHARES else logarithm + 3 for name, logarithm in zip(
        names, first.tolist(), strict=True)]  # fmt: skip
    found = least_squares(
        errors,
        np.minimum(first, np.array(highest) - 1e-3),
        bounds=(first - 3, highest),
        loss="cauchy",
        f_scale=_PLAUSIBLE,
        x_scale="jac",
        diff_step=1e-4,
        max_nfev=80,
    )
    return constants(found.x)


def throughputs(runs: Sequence[MeasuredTime], constants: TimeConstants) -> list[float]:
    """What the formulas say of the runs, in tokens a second."""
    models: dict[tuple[Shape, Cluster, str], TimeModel] = {}
    planned = []
    for run in runs:
        key = run.shape, run.cluster, run.recipe.name
        if key not in models:
            models[key] = TimeModel(run.shape, run.cluster, run.recipe, constants)
        planned.append(models[key].step(run.layout).tokens_per_second)
    return planned


def _weights(runs: Sequence[MeasuredTime]) -> npt.NDArray[np.float64]:
    best: dict[tuple[Shape, int], float] = {}
    for run in runs:
        cell = run.shape, run.layout.devices
        best[cell] = max(best.get(cell, 0.0), run.tokens_per_second)
    shares = [run.tokens_per_second / best[run.shape, run.layout.devices] for run in runs]
    return np.array(shares) ** _POWER
