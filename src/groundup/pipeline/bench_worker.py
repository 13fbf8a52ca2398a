"""The process in which one trial of a training step is measured: a job on standard input, an answer on output."""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import psutil
import torch

from groundup.errors import UserError
from groundup.model.registry import build
from groundup.objective import OBJECTIVES, Objective
from groundup.pipeline import bench_profile
from groundup.pipeline.bench_process import Trial
from groundup.seeds import derive
from groundup.shape import family
from groundup.train.allocator import keep_freed_memory
from groundup.train.device import set_threads
from groundup.train.peak_memory import peak_bytes, reset_peak
from groundup.train.step import TrainStep
from groundup.train.timing import repeat, seconds_of

# So small that a model fed with random tokens stays what it is.
_LR = 1e-6
_PR_SET_PDEATHSIG = 1


def measure(trial: Trial, seconds: float) -> dict[str, Any]:
    """Times of steps on random tokens after two to warm up, and the peak memory of those steps."""
    start_bytes = psutil.Process().memory_info().rss
    step = make_step(trial, OBJECTIVES[family(trial.shape.family).objective])
    warmup = [seconds_of(step) for _ in range(2)]
    of_steps = reset_peak(trial.device)
    timing = repeat(step, seconds, warmups=0)
    return {
        "steps": len(timing.seconds),
        "step_seconds": timing.median,
        "step_seconds_least": timing.least,
        "step_seconds_spread": timing.spread,
        "warmup_seconds": sum(warmup),
        "start_bytes": start_bytes,
        "peak_bytes": peak_bytes(trial.device),
        "peak_of": "the measured steps" if of_steps else "the process",
        "compiled_from_cache": _from_cache() if trial.settings.compile == "on" else None,
    }


def profile(trial: Trial, seconds: float, timeline: Path) -> dict[str, Any]:
    """Where the time of a step goes (see `bench_profile.record`)."""
    objective = OBJECTIVES[family(trial.shape.family).objective]
    return bench_profile.record(lambda wrap: make_step(trial, wrap(objective), wrap.model), seconds, timeline)


def make_step(
    trial: Trial, objective: Objective, prepare: Callable[[torch.nn.Module], None] | None = None
) -> Callable[[], None]:
    """A function that takes a training step on the same random tokens each time; UserError where it fails."""
    keep_freed_memory()
    set_threads(trial.threads)
    model = build(trial.shape, derive(trial.seed, "weights"), trial.device)
    if prepare:
        prepare(model)
    take_step = TrainStep(model, objective, trial.settings, precision=trial.precision, device=trial.device)
    random = np.random.default_rng(derive(trial.seed, "bench"))
    windows = random.integers(0, trial.shape.vocabulary_size, (trial.batch_size, trial.shape.context + 1))

    def step() -> None:
        result = take_step(windows, _LR)
        if not result.usable:
            raise UserError(f"the loss became {result.loss} (gradient norm {result.grad_norm})")

    return step
