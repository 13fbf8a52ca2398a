"""What a machine has shown: its measured figures, steps that were timed, and how past plans missed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean, median
from typing import Any, Self

from groundup.plan.hardware import Hardware
from groundup.plan.memory import Recompute
from groundup.plan.speed import WEIGHTS, step_parts
from groundup.recipe import TrainRecipe
from groundup.shape import Shape

# How strongly a weight of the speed formula is held to its default, beside a timed step as 1: the steps of one
# calibration are too few and too alike to tell all of them apart.
_PRIOR = 0.35
# From this relative error on a timed step counts less, and so often is the fit made with new trust.
_FAR_OFF, _REWEIGHTINGS = 0.1, 8
# Past plans count as though one more had been exactly right, so that a single run does not turn the next plan.
_TRUST_IN_PLAN = 1.0
_MOST_RUNS = 50


@dataclass(frozen=True)
class TimedStep:
    """A training step as it was measured: what, and its seconds."""

    shape: Shape
    batch_size: int
    precision: str
    optimizer: str
    recompute: Recompute
    seconds: float


@dataclass(frozen=True)
class Corrections:
    """What the law's loss and the formula's peak of memory are multiplied by, as past runs came out."""

    loss: float = 1.0
    peak: float = 1.0


@dataclass(frozen=True)
class PastRun:
    """A finished run beside what the formulas said of it without corrections. `sources` names the text."""

    sources: tuple[str, ...]
    planned_bits_per_byte: float
    bits_per_byte: float
    planned_peak_bytes: float
    peak_bytes: int


@dataclass(frozen=True)
class Calibration:
    """All that is known of one machine. `measured` is the date of the probe or, without one, of the last run."""

    hardware: Hardware
    measured: str
    probed: bool = False
    steps: Sequence[TimedStep] = ()
    runs: Sequence[PastRun] = field(default_factory=tuple)

    def calibrated(self, hardware: Hardware | None = None) -> Hardware:
        """`hardware`, by default the stored one, with weights of the speed formula fitted to the timed steps."""
        hardware = hardware or self.hardware
        return replace(hardware, speed=fit_speed(self.steps, self.hardware)) if self.steps else hardware

    def corrections(self, sources: Sequence[str]) -> Corrections:
        """Outcomes over plans, drawn towards 1: of the loss on this text on average, of the peak over all runs."""
        losses = [
            run.bits_per_byte / run.planned_bits_per_byte for run in self.runs if run.sources == tuple(sources)
        ]
        peaks = [run.peak_bytes / run.planned_peak_bytes for run in self.runs]
        return Corrections(
            loss=_drawn_to_one(fmean(losses), len(losses)) if losses else 1.0,
            peak=_drawn_to_one(median(peaks), len(peaks)) if peaks else 1.0,
        )

    def with_run(self, run: PastRun) -> Self:
        """With one more run, the oldest forgotten beyond a number."""
        return replace(self, runs=[*self.runs, run][-_MOST_RUNS:])

    def with_step(self, step: TimedStep) -> Self:
        """With one more timed step, in place of an older one of the same kind."""
        others = [old for old in self.steps if replace(old, seconds=step.seconds) != step]
        return replace(self, steps=[*others, step][-_MOST_RUNS:])

    def as_json(self) -> dict[str, Any]:
        """Plain values, for its file."""
        values = asdict(replace(self, steps=()))
        return values | {"steps": [asdict(step) | {"shape": step.shape.model_dump()} for step in self.steps]}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """What `as_json` wrote."""
        return cls(
            hardware=Hardware(**values["hardware"]),
            measured=values["measured"],
            probed=values["probed"],
            steps=[TimedStep(**row | {"shape": Shape(**row["shape"])}) for row in values["steps"]],
            runs=[PastRun(**row | {"sources": tuple(row["sources"])}) for row in values["runs"]],
        )


def _drawn_to_one(ratio: float, count: int) -> float:
    return (count * ratio + _TRUST_IN_PLAN) / (count + _TRUST_IN_PLAN)


def fit_speed(steps: Sequence[TimedStep], hardware: Hardware, prior: float = _PRIOR) -> dict[str, float]:
    """Weights of the speed formula, none below 0, from steps timed on `hardware`.

    Least squares of relative errors, with each weight's relative distance from its default as a further error
    (ridge regression about a prior); steps that lie far off, as a busy machine's do, count less (Huber's weights).
    """
    import numpy as np
    from scipy.optimize import nnls

    names = list(WEIGHTS)
    defaults = np.array([WEIGHTS[name] for name in names])
    rows = np.array([_relative_parts(step, hardware, names) for step in steps]) * defaults
    # One factor for the whole machine is free; the weights are held to their defaults about that.
    level = 1.0 / float(np.median(rows.sum(axis=1)))
    trust = np.ones(len(rows))
    for _ in range(_REWEIGHTINGS):
        design = np.concatenate([trust[:, None] * rows, prior * np.eye(len(names))])
        factors, _ = nnls(design, np.concatenate([trust, prior * level * np.ones(len(names))]))
        misses = np.abs(rows @ factors - 1.0)
        trust = np.sqrt(np.minimum(1.0, _FAR_OFF / np.maximum(misses, _FAR_OFF)))
    return {name: float(value) for name, value in zip(names, factors * defaults, strict=True)}


def _relative_parts(step: TimedStep, hardware: Hardware, names: Sequence[str]) -> list[float]:
    settings = TrainRecipe(optimizer=step.optimizer, recompute=step.recompute)
    parts = step_parts(step.shape, step.batch_size, hardware, step.precision, settings)
    return [parts[name] / step.seconds for name in names]
