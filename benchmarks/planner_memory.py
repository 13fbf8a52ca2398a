"""`planner.py memory`: peaks of training runs on H100, as planned against as measured.

    python benchmarks/planner.py memory --runs ../shared/data/ultrascale/bench_1b_3b.csv

The constants are fitted to the runs of one size of model and tried on those of the other, both ways; then to all
of them, as `groundup.plan.cluster.memory` keeps them. nanotron writes down the peak of rank 0, which has the first
stage of the pipeline, and that is what is compared; whether a run fits depends on the greatest stage. Runs without
figures have crashed, not all of them for lack of memory: not those beside which another run has ended that must
need as much or more, nor those that the engine refuses.
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from groundup.plan.cluster.layout import Layout
from groundup.plan.cluster.memory import FORMULAS_ALONE, H100_NANOTRON, MemoryConstants, device_memory
from groundup.plan.cluster.memory_fit import MeasuredMemory, calibrate
from groundup.plan.cluster.stages import stages
from groundup.plan.cluster.states import STATE_RECIPES
from groundup.plan.models import named_shape
from groundup.shape import Shape
from tokenizer_rounds import print_table

# What nanotron keeps: weights in bfloat16, gradients and master weights in float32.
RECIPE = STATE_RECIPES["bf16-main-grads"]
# The most that a run had; one that is planned above it is called out of memory.
LIMIT_BYTES = 76 * 2**30
LARGER = ("8b", "80b")
LARGER_LAYOUTS = (
    Layout(data=1, tensor=8, accumulation=256),
    Layout(data=8, tensor=8, zero=1, accumulation=32),
    Layout(data=8, tensor=4, pipeline=2, zero=1, accumulation=32),
    Layout(data=4, tensor=8, pipeline=4, zero=1, accumulation=64),
    Layout(data=2, tensor=8, pipeline=16, zero=1, accumulation=128),
    Layout(data=8, tensor=8, pipeline=8, zero=1, micro_batch=2, accumulation=16),
)


@dataclass(frozen=True)
class Run:
    """A row of the study; no peak where it crashed."""

    model: str
    shape: Shape
    layout: Layout
    peak_bytes: float | None


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The subcommand `memory`."""
    parser = subparsers.add_parser("memory", help=__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="the study's runs, a CSV file")
    parser.set_defaults(run=_memory)


def read_runs(file: Path) -> list[Run]:
    """The rows of the study, without those that have more pipeline stages than layers; `mem` is in GiB."""
    with file.open(newline="") as lines:
        runs = [_run(row) for row in csv.DictReader(lines)]
    return [run for run in runs if run.layout.pipeline <= run.shape.num_layers]


def _run(row: dict[str, str]) -> Run:
    shape = named_shape(f"playbook-{row['model']}")
    assert shape is not None, row["model"]
    size = {name: int(float(row[name])) for name in ("dp", "tp", "pp", "zero", "mbs", "ga")}
    layout = Layout(
        data=size["dp"],
        tensor=size["tp"],
        pipeline=size["pp"],
        zero=1 if size["zero"] else 0,
        micro_batch=size["mbs"],
        accumulation=size["ga"],
    )
    return Run(row["model"], shape, layout, float(row["mem"]) * 2**30 if row["mem"] else None)


def measured(runs: Sequence[Run]) -> list[MeasuredMemory]:
    """Those that ran to the end."""
    return [MeasuredMemory(run.shape, run.layout, RECIPE, run.peak_bytes) for run in runs if run.peak_bytes]


def errors(runs: Sequence[Run], constants: MemoryConstants) -> np.ndarray:
    """Planned over measured less one, for the first stage of each run that ended."""
    planned = [
        device_memory(run.shape, run.layout, run.recipe, constants=constants).stages[0].peak / run.peak_bytes
        for run in measured(runs)
    ]
    return np.array(planned) - 1.0


def out_of_memory(runs: Sequence[Run], constants: MemoryConstants) -> float:
    """The share of the runs that are planned above the limit."""
    peaks = [device_memory(run.shape, run.layout, RECIPE, constants=constants).peak for run in runs]
    return float(np.mean(np.array(peaks) > LIMIT_BYTES))


def needs_no_less(run: Run, other: Run) -> bool:
    """Whether `run` needs as much memory as `other` or more, by the order of their layouts alone."""
    mine, theirs = run.layout, other.layout
    same = (run.model, mine.tensor, mine.pipeline) == (other.model, theirs.tensor, theirs.pipeline)
    states = mine.zero == 0 or (theirs.zero == 1 and mine.data <= theirs.data)
    in_flight = min(mine.accumulation, mine.pipeline + 1) >= min(theirs.accumulation, theirs.pipeline + 1)
    return same and states and in_flight and mine.micro_batch >= theirs.micro_batch


def is_refused(run: Run) -> bool:
    """Whether nanotron cannot run a pipeline: it wants p - 1 micro-batches or more, and a block for every stage.

    Of stages without layers one has the head, and one the loss. A single run of those has ended all the same.
    """
    without_layers = sum(stage.layers == 0 for stage in stages(run.shape, run.layout.pipeline))
    return run.layout.accumulation < run.layout.pipeline - 1 or without_layers > 2


def _memory(arguments: argparse.Namespace) -> None:
    runs = read_runs(arguments.runs)
    fits = [(f"fitted to {size}", calibrate(measured(_of(runs, size)))) for size in _sizes(runs)]
    constants = calibrate(measured(runs))
    others = [[run for run in runs if run.model != size] for size in _sizes(runs)]
    tried = [(*fit, other) for fit, other in zip(fits, others, strict=True)]
    tried += [("fitted to all", constants, runs), ("as kept", H100_NANOTRON, runs)]
    tried += [("formulas alone", FORMULAS_ALONE, runs)]
    print_table(
        ["constants", "runs", "median error", "90th percentile", "bias", "crashed, called so",
         "crashed for memory, called so", "ended, called out of memory"],
        [_row(*one) for one in tried],
    )  # fmt: skip
    names = [field.name for field in fields(MemoryConstants) if field.name != "source"]
    print_table(
        ["constant", *(title for title, _ in fits), "fitted to all"],
        [
            [name, *(f"{getattr(one, name):.4g}" for one in (*(fit for _, fit in fits), constants))]
            for name in names
        ],
    )
    print_table(
        ["data", "tensor", "pipeline", "ZeRO", "micro-batch", *LARGER],
        [_larger(layout) for layout in LARGER_LAYOUTS],
    )


def _sizes(runs: Sequence[Run]) -> list[str]:
    return sorted({run.model for run in runs})


def _of(runs: Sequence[Run], size: str) -> list[Run]:
    return [run for run in runs if run.model == size]


def _row(title: str, constants: MemoryConstants, runs: Sequence[Run]) -> list[str]:
    error = errors(runs, constants)
    ended = [run for run in runs if run.peak_bytes]
    crashed = [run for run in runs if not run.peak_bytes]
    for_memory = [
        run for run in crashed if not is_refused(run) and not any(needs_no_less(one, run) for one in ended)
    ]
    return [
        title,
        f"{len(ended)} of {'+'.join(_sizes(runs))}",
        f"{np.median(abs(error)):.1%}",
        f"{np.quantile(abs(error), 0.9):.1%}",
        f"{np.median(error):+.1%}",
        f"{out_of_memory(crashed, constants):.1%} of {len(crashed)}",
        f"{out_of_memory(for_memory, constants):.1%} of {len(for_memory)}",
        f"{out_of_memory(ended, constants):.1%}",
    ]


def _larger(layout: Layout) -> list[str]:
    """What the study's larger models, whose runs are not in the file, are planned to take, in GiB."""
    sizes = (layout.data, layout.tensor, layout.pipeline, layout.zero, layout.micro_batch)
    peaks = [device_memory(named_shape(f"playbook-{name}"), layout, RECIPE).peak for name in LARGER]
    return [*map(str, sizes), *(f"{peak / 2**30:.1f}" for peak in peaks)]
