"""`planner.py layout`: which layout is chosen for training runs on H100, and how good it was when it was measured.

    python benchmarks/planner.py layout --runs ../shared/data/ultrascale/bench_1b_3b.csv

A cell is one model on one number of nodes. Among the layouts that were tried there, those are ranked by planned
throughput that the memory's formulas let through; a layout that crashed is worth nothing. The score is the
measured throughput of the first choice, and of the best of the first three, over that of the best layout of the
cell. The constants are fitted to the runs of one model and choose for the other, to all cells but the one that
they choose for, and to all; runs that hung (below 1 % of the peak) are left out of fits but not of choices.
"""

import argparse
import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from time import perf_counter

import numpy as np

from groundup.plan.cluster.devices import Cluster, parse_hardware
from groundup.plan.cluster.layout import Layout
from groundup.plan.cluster.memory import device_memory, usable_bytes
from groundup.plan.cluster.search import HEADROOM, ranking, search
from groundup.plan.cluster.states import STATE_RECIPES
from groundup.plan.cluster.time import H100_NANOTRON, TimeConstants
from groundup.plan.cluster.time_fit import MeasuredTime, calibrate, throughputs
from groundup.plan.models import named_shape
from groundup.shape import Shape
from tokenizer_rounds import print_table

RECIPE = STATE_RECIPES["bf16-main-grads"]
# The fit starts at round numbers, so that it owes nothing to constants that were fitted before.
START = TimeConstants(
    matmul=0.5, attention=0.35, memory=0.9, link=0.85, network=0.9, link_sharing=0.4, port_sharing=0.6,
    congestion=0.15, link_hop=1e-5, network_hop=1.5e-4, launch=2e-3, launch_tensor=2.5e-3, launch_pipeline=4.5e-3,
    overlap=0.3, step=0.05,
)  # fmt: skip
# Runs below this share of the peak hung.
HUNG = 1.0


@dataclass(frozen=True)
class Run:
    """A row of the study; `tokens_per_second` of all devices is 0 where it crashed; `mfu` in percent."""

    model: str
    nodes: int
    shape: Shape
    layout: Layout
    cluster: Cluster
    tokens_per_second: float
    mfu: float

    @property
    def cell(self) -> tuple[str, int]:
        """What was chosen among."""
        return self.model, self.nodes

    @property
    def measured(self) -> MeasuredTime:
        """For the fit."""
        return MeasuredTime(self.shape, self.layout, self.cluster, RECIPE, self.tokens_per_second)


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The subcommand `layout`."""
    parser = subparsers.add_parser("layout", help=__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="the study's runs, a CSV file")
    parser.set_defaults(run=_layout)


def read_runs(file: Path) -> list[Run]:
    """One run for each layout of a cell, the best where it was tried again; none with more stages than layers."""
    best: dict[tuple[str, int, Layout], Run] = {}
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            run = _run(row)
            key = *run.cell, run.layout
            if run.layout.pipeline <= run.shape.num_layers and (
                key not in best or run.tokens_per_second > best[key].tokens_per_second
            ):
                best[key] = run
    return list(best.values())


def _run(row: dict[str, str]) -> Run:
    shape = named_shape(f"playbook-{row['model']}")
    assert shape is not None, row["model"]
    size = {name: int(float(row[name])) for name in ("dp", "tp", "pp", "zero", "mbs", "ga", "nodes")}
    layout = Layout(
        data=size["dp"],
        tensor=size["tp"],
        pipeline=size["pp"],
        zero=1 if size["zero"] else 0,
        micro_batch=size["mbs"],
        accumulation=size["ga"],
    )
    return Run(
        row["model"],
        size["nodes"],
        shape,
        layout,
        parse_hardware(f"h100x{layout.devices}"),
        float(row["tpsg"] or 0) * layout.devices,
        float(row["mfu"] or 0),
    )


def fitted(runs: Sequence[Run]) -> TimeConstants:
    """To those that ended and did not hang."""
    return calibrate([run.measured for run in runs if run.mfu >= HUNG], START)


@dataclass(frozen=True)
class Choice:
    """One cell: the scores of the first choice and of the best of three, the rank correlation of what ended."""

    cell: tuple[str, int]
    first: float
    best_of_three: float
    correlation: float


def choose(runs: Sequence[Run], constants: TimeConstants) -> Choice:
    """For the runs of one cell."""
    planned = throughputs([run.measured for run in runs], constants)
    fitting = [place for place, run in enumerate(runs) if _is_let_through(run)]
    order = ranking([runs[place].measured.layout for place in fitting], [planned[place] for place in fitting])
    ranked = [runs[fitting[place]] for place in order]
    best = max(run.tokens_per_second for run in runs)
    scores = [run.tokens_per_second / best for run in ranked[:3]]
    ended = [(one, run.tokens_per_second) for one, run in zip(planned, runs, strict=True) if run.mfu >= HUNG]
    return Choice(
        runs[0].cell, scores[0], max(scores), _rank_correlation(*map(np.array, zip(*ended, strict=True)))
    )


def _is_let_through(run: Run) -> bool:
    peak = device_memory(run.shape, run.layout, RECIPE).peak
    return peak <= (1 - HEADROOM) * usable_bytes(run.cluster.device)


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def _layout(arguments: argparse.Namespace) -> None:
    runs = read_runs(arguments.runs)
    cells = sorted({run.cell for run in runs})
    by_cell = {cell: [run for run in runs if run.cell == cell] for cell in cells}
    models = sorted({run.model for run in runs})
    of_model = {model: [run for run in runs if run.model == model] for model in models}
    fits = {model: fitted(of_model[model]) for model in models}
    whole = fitted(runs)
    other = dict(zip(models, reversed(models), strict=True))
    ways: dict[str, Callable[[tuple[str, int]], TimeConstants]] = {
        "fitted to the other model": lambda cell: fits[other[cell[0]]],
        "fitted to all other cells": lambda cell: fitted([run for run in runs if run.cell != cell]),
        "fitted to all": lambda _: whole,
        "as kept": lambda _: H100_NANOTRON,
    }
    choices = {
        name: [choose(by_cell[cell], constants(cell)) for cell in cells] for name, constants in ways.items()
    }
    _print_scores(choices, models)
    _print_cells(choices["fitted to the other model"])
    _print_errors({f"fitted to {model}": (fits[model], of_model[other[model]]) for model in models}, runs)
    names = [field.name for field in fields(TimeConstants) if field.name != "source"]
    print_table(
        ["constant", *(f"fitted to {model}" for model in models), "fitted to all", "as kept"],
        [
            [name, *(f"{asdict(one)[name]:.3g}" for one in (*fits.values(), whole, H100_NANOTRON))]
            for name in names
        ],
    )
    _print_search()


def _print_scores(choices: dict[str, list[Choice]], models: Sequence[str]) -> None:
    rows = []
    for name, all_of_them in choices.items():
        for model in (*models, ""):
            some = [one for one in all_of_them if model in {one.cell[0], ""}]
            rows.append(
                [
                    name,
                    model or "all",
                    f"{np.mean([one.first for one in some]):.3f}",
                    f"{np.mean([one.best_of_three for one in some]):.3f}",
                    f"{np.mean([one.correlation for one in some]):.2f}",
                ]
            )
    print_table(["constants", "chosen for", "first choice", "best of three", "rank correlation"], rows)


def _print_cells(choices: Sequence[Choice]) -> None:
    print_table(
        ["model", "nodes", "first choice", "best of three", "rank correlation"],
        [
            [
                one.cell[0],
                str(one.cell[1]),
                f"{one.first:.2f}",
                f"{one.best_of_three:.2f}",
                f"{one.correlation:.2f}",
            ]
            for one in choices
        ],
    )


def _print_errors(tried: dict[str, tuple[TimeConstants, list[Run]]], runs: Sequence[Run]) -> None:
    """Of the layouts with 60 % or more of the best of their cell."""
    best = {
        cell: max(run.tokens_per_second for run in runs if run.cell == cell) for cell in {run.cell for run in runs}
    }
    rows = []
    for name, (constants, some) in tried.items():
        good = [run for run in some if run.mfu >= HUNG and run.tokens_per_second >= 0.6 * best[run.cell]]
        planned = np.array(throughputs([run.measured for run in good], constants))
        error = np.abs(planned / [run.tokens_per_second for run in good] - 1)
        rows.append(
            [name, f"{len(good)} of {good[0].model}", f"{np.median(error):.1%}", f"{np.quantile(error, 0.9):.1%}"]
        )
    print_table(["constants", "good layouts", "median error", "90th percentile"], rows)


def _print_search() -> None:
    rows = []
    for name, hardware in (("llama2-7b", "h100x64"), ("llama2-70b", "h100x512"), ("llama3-405b", "h100x4096")):
        shape = named_shape(name)
        assert shape is not None
        start = perf_counter()
        best = search(shape, parse_hardware(hardware), 1024, RECIPE)[0]
        seconds = perf_counter() - start
        rows.append([name, hardware, f"{1e3 * seconds:.0f} ms", f"{best.time.mfu:.1%}", str(best.layout)])
    print_table(["model", "devices", "search", "MFU", "best"], rows)
