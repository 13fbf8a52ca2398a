"""`training.py grow`: how throughput, utilisation and memory change with size and context, tokens a step fixed.

Each cell is a process of its own with the settings that `groundup build` chooses; the cells take turns. Of the
FLOPs of a token 6 N do not depend on the context T and 12 L d T grow with it: the last column is what the
throughput would lose from the shortest context on if every FLOP cost the same.
"""

import argparse
import dataclasses
import json
import sys
from contextlib import ExitStack
from pathlib import Path

from tokenizer_rounds import load, note, print_machine, print_table
from training_contenders import GROWTH, PEAK
from training_rounds import Rounds, Turns, attention_flops, flops_per_token, peak_flops
from training_worker import Job

_SIZES = {"5M": {"layers": 6, "width": 256, "heads": 4}, "50M": {"layers": 16, "width": 512, "heads": 8}}
_VOCABULARY = 4096
Cell = tuple[str, int]


def grow(arguments: argparse.Namespace) -> None:
    """The table and the plot."""
    jobs = {
        (size, length): _job(shape, length, arguments)
        for size, shape in _SIZES.items()
        for length in arguments.lengths
    }
    measured, peak = _measure(jobs, arguments)
    print_machine(("torch",))
    print(f"{arguments.tokens:,} tokens a step, vocabulary {_VOCABULARY:,}, bf16 peak {peak / 1e9:.0f} GFLOP/s\n")
    print_table(_HEADER, [_row(cell, jobs, measured, peak) for cell in jobs if cell in measured])
    print(load())
    _plot(jobs, measured, peak, arguments.plot)
    if arguments.json:
        cells = {f"{size}, T {length}": dataclasses.asdict(given) for (size, length), given in measured.items()}
        arguments.json.write_text(json.dumps({"bf16_peak_flops": peak, "cells": cells}, indent=1))


def _job(shape: dict[str, int], length: int, arguments: argparse.Namespace) -> Job:
    batch = max(1, arguments.tokens // length)
    return Job("", {}, **shape, context=length, batch=batch, vocabulary=_VOCABULARY, threads=arguments.threads)


def _measure(jobs: dict[Cell, Job], arguments: argparse.Namespace) -> tuple[dict[Cell, Turns], float]:
    """What every cell answered, and the peak of bf16 products in the same rounds."""
    with ExitStack() as stack:
        cells = {cell: stack.enter_context(Rounds(job, [GROWTH], sys.executable)) for cell, job in jobs.items()}
        products = stack.enter_context(Rounds(next(iter(jobs.values())), PEAK, sys.executable))
        for _ in range(arguments.rounds):
            for one in (*cells.values(), products):
                one.run(1, arguments.seconds)
        for cell, rounds in cells.items():
            for failure in rounds.failures.values():
                note(f"{cell}: {failure}")
        measured = {cell: turns for cell, one in cells.items() if (turns := one.turns().get(GROWTH))}
        return measured, peak_flops(products.turns())


_HEADER = (
    "in blocks", "T", "batch", "chosen", "tokens/s (min to max)", "GFLOP/s", "of the peak", "ms a step",
    "peak of the step, MB", "of the FLOPs attention", "tokens/s of the first", "by FLOPs",
)  # fmt: skip


def _row(cell: Cell, jobs: dict[Cell, Job], measured: dict[Cell, Turns], peak: float) -> list[str]:
    job, given = jobs[cell], measured[cell]
    tokens = job.batch * job.context
    rates = sorted(tokens / seconds for seconds in given.seconds_a_step)
    rate, flops = tokens / given.seconds, flops_per_token(given.in_blocks, job)
    row = [
        f"{given.in_blocks / 1e6:.1f}M",
        f"{job.context:,}",
        f"{job.batch}",
        "{precision}, compile {compile}, micro-batch {micro_batch}".format_map(given.settings or {}),
        f"{rate:,.0f} ({rates[0]:,.0f} to {rates[-1]:,.0f})",
        f"{rate * flops / 1e9:.0f}",
        f"{rate * flops / peak:.0%}",
        f"{1e3 * given.seconds:.0f}",
        f"{(given.peak - given.before) / 1e6:.0f}",
        f"{attention_flops(job) / flops:.0%}",
    ]
    first = next((other for other in measured if other[0] == cell[0]), cell)
    first_rate = jobs[first].batch * jobs[first].context / measured[first].seconds
    return [
        *row,
        f"{rate / first_rate:.2f}x",
        f"{flops_per_token(measured[first].in_blocks, jobs[first]) / flops:.2f}x",
    ]


def _plot(jobs: dict[Cell, Job], measured: dict[Cell, Turns], peak: float, path: Path) -> None:
    """Three panels over the context, a line a size."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = ("tokens/s", "share of the bf16 peak, %", "peak memory of a step, MB")
    figure = make_subplots(rows=1, cols=3, subplot_titles=titles)
    for number, size in enumerate(_SIZES):
        cells = [cell for cell in measured if cell[0] == size]
        rates = [jobs[cell].batch * jobs[cell].context / measured[cell].seconds for cell in cells]
        shares = [
            100 * rate * flops_per_token(measured[cell].in_blocks, jobs[cell]) / peak
            for rate, cell in zip(rates, cells, strict=True)
        ]
        peaks = [(measured[cell].peak - measured[cell].before) / 1e6 for cell in cells]
        for column, values in enumerate((rates, shares, peaks), start=1):
            line = go.Scatter(
                x=[length for _, length in cells], y=values, name=f"{size} parameters", legendgroup=size,
                showlegend=column == 1, mode="lines+markers", line_color=("#1f77b4", "#d62728")[number],
            )  # fmt: skip
            figure.add_trace(line, row=1, col=column)
    figure.update_xaxes(type="log", title="context T, tokens", tickvals=sorted({length for _, length in measured}))
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(type="log", col=1)
    figure.update_layout(height=420, width=1150, template="plotly_white", legend={"orientation": "h", "y": -0.25})
    path.write_text(figure.to_html(include_plotlyjs=True, full_html=True))
