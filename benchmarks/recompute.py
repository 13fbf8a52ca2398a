"""Recomputation: what it saves and what it costs, at three sizes.

    OMP_NUM_THREADS=2 python benchmarks/recompute.py

For each size and each of none, selective and full: bytes of activations kept at the end of the forward pass and of
all tensors at the peak (by tensor, `groundup.train.memory`), the resident peak of a process of its own beside the
planner's `train_bytes`, floating-point operations beside none, and the median time of a step; steps take turns.
Not compiled, AdamW. The last rows are the figures of Korthikanti et al. 2022 (arXiv:2205.05198) for GPT-3 on GPUs.
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from groundup.model.registry import build
from groundup.objective import CAUSAL
from groundup.pipeline.bench_flops import operator_flops
from groundup.pipeline.bench_memory import record
from groundup.pipeline.bench_process import Trial, measure
from groundup.pipeline.bench_step import make_step
from groundup.plan.hardware import Hardware, Precision
from groundup.plan.memory import train_bytes
from groundup.recipe import TrainRecipe
from groundup.shape import Shape
from groundup.train.machine import measure as measure_machine
from groundup.train.step import TrainStep
from groundup.train.timing import seconds_of

KINDS = ("none", "selective", "full")
# Layers, width, heads, context, batch.
SIZES = {"6 x 384": (6, 384, 6, 256, 8), "8 x 512": (8, 512, 8, 512, 4), "12 x 768": (12, 768, 12, 256, 2)}
_VOCABULARY = 4096
_GUIDE = """| guide: GPT-3 (T 2048), selective | about 30 % | | | | +1.6 % | +2.7 % |
| guide: GPT-3, full | the input of each layer | | | | +33 % | +30 to +40 % |"""


def trial(size: str, family: str, precision: Precision, kind: str) -> Trial:
    layers, width, heads, context, batch = SIZES[size]
    shape = Shape(
        family=family,
        num_layers=layers,
        width=width,
        num_heads=heads,
        num_kv_heads=heads,
        head_width=width // heads,
        feedforward_width=4 * width if family == "gpt2" else width * 8 // 3 // 32 * 32,
        vocabulary_size=_VOCABULARY,
        context=context,
    )
    settings = TrainRecipe(optimizer="adamw", compile="off", recompute=kind, micro_batch=batch)
    return Trial(shape, settings, batch, precision, "cpu", torch.get_num_threads(), seed=1)


class _Flops(TorchDispatchMode):
    """Adds up the floating-point operations of the operators that are run."""

    total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        shapes = [argument.shape if isinstance(argument, torch.Tensor) else () for argument in args]
        self.total += operator_flops(func._schema.name.partition("::")[2], shapes)
        return func(*args, **(kwargs or {}))


def flops(given: Trial) -> float:
    """Of the products of a forward and a backward pass, those computed again included."""
    settings, objective = given.settings, CAUSAL
    take_step = TrainStep(build(given.shape), objective, settings, precision=given.precision, device="cpu")
    windows = np.zeros((given.batch_size, given.shape.context + 1), np.int64)
    with _Flops() as counter:
        take_step.accumulate(windows)
    return counter.total


def kept_and_peak(given: Trial) -> tuple[int, int]:
    """Bytes of activations at the end of the forward pass, and of all tensors at the peak of a later step."""
    step = record(given)[1]
    return int(step.bytes["activations"][step.phases.index("backward") - 1]), step.peak


def step_seconds(given: list[Trial], rounds: int) -> list[float]:
    """Medians; each round takes one step of each, the first of them in turn."""
    steps: list[Callable[[], None]] = [make_step(one) for one in given]
    times: list[list[float]] = [[] for _ in steps]
    for turn in range(-1, rounds):  # the first round warms up
        for place in np.roll(range(len(steps)), turn):
            seconds = seconds_of(steps[place])
            if turn >= 0:
                times[place].append(seconds)
    return [statistics.median(found) for found in times]


_HEADER = (
    "layers x width, recompute", "activations kept, MB", "tensors at the peak, MB", "process, MB", "planned, MB",
    "floating-point operations", "ms a step",
)  # fmt: skip


def show(size: str, trials: list[Trial], hardware: Hardware, rounds: int) -> None:
    """Measure and print the rows of one size."""
    memory = [kept_and_peak(one) for one in trials]
    processes = [measure(one, 0.0, hardware)["peak_bytes"] for one in trials]
    planned = [train_bytes(one.shape, one.batch_size, one.precision, one.settings) for one in trials]
    operations = [flops(one) for one in trials]
    times = step_seconds(trials, rounds)
    for place, kind in enumerate(KINDS):
        (kept, peak), (all_kept, all_peak) = memory[place], memory[0]
        cells = (
            f"{size}, {kind}",
            f"{kept / 1e6:.1f} ({kept / all_kept:.0%})",
            f"{peak / 1e6:.1f} ({peak / all_peak:.0%})",
            f"{processes[place] / 1e6:.0f}",
            f"{planned[place] / 1e6:.0f}",
            f"{operations[place] / 1e9:.2f} G ({operations[place] / operations[0] - 1:+.1%})",
            f"{1e3 * times[place]:.1f} ({times[place] / times[0] - 1:+.0%})",
        )
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16", "bf16-weights"))
    parser.add_argument("--family", default="gpt2", choices=("gpt2", "llama", "qwen3"))
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    hardware = measure_machine(TrainRecipe())
    print(
        f"{hardware.name}, {hardware.threads} threads, {given.family}, {given.precision}, {given.rounds} rounds\n"
    )
    print(f"| {' | '.join(_HEADER)} |\n|{'---|' * len(_HEADER)}")
    for size in given.sizes:
        show(size, [trial(size, given.family, given.precision, kind) for kind in KINDS], hardware, given.rounds)
    print(_GUIDE)


if __name__ == "__main__":
    main()
