"""Runs that follow a known law."""

from collections.abc import Callable

import numpy as np
import pytest

from groundup.plan.scaling.laws import ChinchillaLaw, KaplanLaw, Law, TiedLaw
from groundup.plan.scaling.runs import Runs

LAWS: dict[str, Law] = {
    "tied": TiedLaw(1.2, 60.0, 0.3, 90.0, 0.3),
    "chinchilla": ChinchillaLaw(1.7, 400.0, 0.34, 1500.0, 0.37),
    "kaplan": KaplanLaw(0.9, 3e4, 0.25, 8e5, 0.35),
}


@pytest.fixture
def runs_of() -> Callable[..., Runs]:
    """Runs on a grid of sizes and tokens with the losses of a law, each off by a share `noise`."""

    def make(law: Law, noise: float = 0.0, sizes: int = 5, lengths: int = 5, seed: int = 0) -> Runs:
        grid = np.meshgrid(np.geomspace(1e6, 1e8, sizes), np.geomspace(2e7, 2e9, lengths))
        parameters, tokens = (axis.ravel() for axis in grid)
        off = np.random.default_rng(seed).normal(0.0, noise, len(tokens)) if noise else 0.0
        return Runs(parameters, tokens, law.fresh(parameters, tokens) * np.exp(off))

    return make
