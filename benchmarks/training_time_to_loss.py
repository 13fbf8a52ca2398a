"""`training.py time-to-loss`: the wall clock that a build needs for what nanoGPT's README recipe reaches.

nanoGPT gets its recipe for CPUs and `--reference-seconds`; its bits per byte of the held-out text are the
target. groundup gets `groundup build --budget X` with an empty cache for each budget: the seconds are those of
the whole process, from its start, with the tokenizer, compilation, evaluation and report. Both are scored on
all of the held-out text, after their time. One after the other; nothing else may run.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import against_nanogpt
from tokenizer_rounds import Failed, load, note, print_machine, print_table


def time_to_loss(arguments: argparse.Namespace) -> None:
    """The table, and the smallest budget that reached the target every time."""
    reference = _reference(arguments)
    target, reference_seconds = reference["bits_per_byte"], reference["seconds"]
    runs: dict[float, list[dict[str, Any]]] = {budget: [] for budget in arguments.budgets}
    for seed in range(1, arguments.repeats + 1):
        for budget in arguments.budgets:
            settings = [*arguments.set, f"seed={seed}"]
            try:
                run = _build(arguments, budget, settings)
            except Failed as failure:
                note(f"budget {budget:g} s, seed {seed}: {failure}")
                continue
            note(f"budget {budget:g} s, seed {seed}: {run['bits_per_byte']:.3f} in {run['seconds']:.1f} s")
            runs[budget].append(run)
    print_machine(("torch",))
    rows = [
        ["nanoGPT", f"{reference_seconds:.1f}", "1.00x", f"{target:.3f}", "", f"{reference.get('tokens', 0):,}"]
    ]
    rows += [_row(budget, made, reference_seconds, target) for budget, made in runs.items()]
    print_table(("", "seconds", "of nanoGPT's", "bits per byte", "reached", "tokens", "parameters"), rows)
    reached = [
        budget for budget, made in runs.items() if made and all(run["bits_per_byte"] <= target for run in made)
    ]
    if reached:
        best = statistics.median(run["seconds"] for run in runs[min(reached)])
        print(f"Reached in {best:.1f} s: 1/{reference_seconds / best:.1f} of nanoGPT's {reference_seconds:.1f} s")
    else:
        print("Not reached by any of these budgets")
    print(load())
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"nanoGPT": reference, "groundup": runs}, ensure_ascii=False, indent=1)
        )


def _reference(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.target is not None:
        return {"bits_per_byte": arguments.target, "seconds": arguments.reference_seconds}
    if arguments.nanogpt is None:
        raise SystemExit("give --nanogpt DIR, or --target BITS_PER_BYTE from an earlier run")
    train, held_out = (path.read_text("utf-8") for path in (arguments.train, arguments.held_out))
    with tempfile.TemporaryDirectory() as work:
        found = against_nanogpt.nanogpt(
            arguments.nanogpt, train, held_out, arguments.reference_seconds, Path(work) / "nanogpt"
        )
    note(f"nanoGPT: {found['bits_per_byte']:.3f} in {found['seconds']:.1f} s")
    return found


def _build(arguments: argparse.Namespace, budget: float, settings: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as work:
        try:
            return against_nanogpt.groundup(arguments.train, arguments.held_out, budget, Path(work), settings)
        except subprocess.CalledProcessError as failure:
            lines = failure.stderr.strip().splitlines()
            raise Failed(lines[-1] if lines else str(failure)) from None


def _row(budget: float, runs: list[dict[str, Any]], reference_seconds: float, target: float) -> list[str]:
    if not runs:
        return [f"groundup build --budget {budget:g}s", "failed"]
    seconds = statistics.median(run["seconds"] for run in runs)
    bits = [run["bits_per_byte"] for run in runs]
    spread = f" ({min(bits):.3f} to {max(bits):.3f})" if len(bits) > 1 else ""
    return [
        f"groundup build --budget {budget:g}s",
        f"{seconds:.1f}",
        f"{seconds / reference_seconds:.2f}x",
        f"{statistics.median(bits):.3f}{spread}",
        f"{sum(value <= target for value in bits)} of {len(bits)}",
        f"{statistics.median(run['tokens'] for run in runs):,.0f}",
        f"{runs[0]['parameters']:,}",
    ]
