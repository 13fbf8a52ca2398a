"""A training step on random tokens, and what it takes: time and memory. Runs in the process of `bench_worker`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
from torch import nn

from groundup.errors import UserError
from groundup.model.registry import build
from groundup.objective import CAUSAL, Objective
from groundup.pipeline.bench_process import Trial
from groundup.seeds import derive
from groundup.train.allocator import keep_freed_memory
from groundup.train.device import set_threads
from groundup.train.peak_memory import peak_bytes, reset_peak
from groundup.train.step import TrainStep
from groundup.train.timing import repeat, seconds_of

# So small that a model fed with random tokens stays what it is.
_LR = 1e-6


def make_step(
    trial: Trial, annotate: Callable[[nn.Module, Objective], Objective] | None = None
) -> Callable[[], None]:
    """A function that takes a training step, on the same random tokens each time; UserError if the loss is lost.

    `annotate` may prepare the model and wrap the objective before they are put to use.
    """
    keep_freed_memory()
    set_threads(trial.threads)
    objective = CAUSAL
    model = build(trial.shape, derive(trial.seed, "weights"), trial.device)
    if annotate:
        objective = annotate(model, objective)
    take_step = TrainStep(model, objective, trial.settings, precision=trial.precision, device=trial.device)
    random = np.random.default_rng(derive(trial.seed, "bench"))
    windows = random.integers(0, trial.shape.vocabulary_size, (trial.batch_size, trial.shape.context + 1))

    def step() -> None:
        result = take_step(windows, _LR)
        if not result.usable:
            raise UserError(f"the loss became {result.loss} (gradient norm {result.grad_norm})")

    return step


def measure(trial: Trial, seconds: float) -> dict[str, Any]:
    """Times of steps, after two to warm up, and the peak memory of those steps; bytes and seconds."""
    start_bytes = psutil.Process().memory_info().rss
    step = make_step(trial)
    warmup = [seconds_of(step) for _ in range(2)]
    reset = reset_peak(trial.device)
    timing = repeat(step, seconds, warmups=0)
    return {
        "steps": len(timing.seconds),
        "step_seconds": timing.median,
        "step_seconds_least": timing.least,
        "step_seconds_spread": timing.spread,
        "warmup_seconds": sum(warmup),
        "start_bytes": start_bytes,
        "peak_bytes": peak_bytes(trial.device),
        "peak_of": "the measured steps" if reset else "the whole process",
        "compiled_from_cache": _compiled_from_cache() if trial.settings.compile == "on" else None,
    }


def _compiled_from_cache() -> bool:
    """Whether the compiler found all that it was asked for in its cache on disk."""
    from torch._dynamo.utils import counters

    missed = counters["inductor"]["fxgraph_cache_miss"] + counters["aot_autograd"]["autograd_cache_miss"]
    return not missed
