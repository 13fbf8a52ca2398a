"""`training.py memory`: the peak of a training step beside plain PyTorch, at the same shape and batch.

Plain PyTorch is nanoGPT's model and step: logits held whole, nothing computed again. Its bf16 is autocast
around them. Peaks are of resident memory since the first step began (VmHWM, cleared), less what the process
held with its packages and no model. groundup keeps freed memory as it does in a build. The time is measured
in the same turns.
"""

import argparse
import dataclasses
import json
import sys

from tokenizer_rounds import load, print_machine, print_table
from training_contenders import MEMORY
from training_rounds import SHAPES, Rounds, Turns
from training_worker import Job

_PLAIN = "plain PyTorch, fp32"


def memory(arguments: argparse.Namespace) -> None:
    """A table for each vocabulary."""
    print_machine(("torch",))
    written = {}
    for vocabulary in arguments.vocabularies:
        sources = {"nanogpt": str(arguments.nanogpt)}
        job = Job("", {}, **SHAPES["M"], vocabulary=vocabulary, threads=arguments.threads, sources=sources)
        with Rounds(job, MEMORY, sys.executable) as rounds:
            rounds.run(arguments.rounds, arguments.seconds)
            turns, failures = rounds.turns(), rounds.failures
        print(
            f"6 layers, width 384, 6 heads, T 256, batch 8, vocabulary {vocabulary:,}, {job.threads} threads, "
            f"{arguments.rounds} rounds of {arguments.seconds:g} s each\n"
        )
        print_table(_HEADER, [_row(name, turns, failures) for name in MEMORY])
        written[vocabulary] = {name: dataclasses.asdict(given) for name, given in turns.items()}
    print(load())
    if arguments.json:
        arguments.json.write_text(json.dumps(written, indent=1))


_HEADER = (
    "", "peak of the process, MB", "of the step, MB", "of plain fp32", "of plain, same products",
    "ms a step", "time, of none recomputed",
)  # fmt: skip


def _row(name: str, turns: dict[str, Turns], failures: dict[str, str]) -> list[str]:
    if name not in turns:
        return [name, failures[name]]
    given = turns[name]

    def share(other: str) -> str:
        return f"{_step_bytes(given) / _step_bytes(turns[other]):.2f}x" if other in turns else ""

    base = name.partition(", recompute")[0] + ", recompute none"
    return [
        name,
        f"{given.peak / 1e6:.0f}",
        f"{_step_bytes(given) / 1e6:.0f}",
        share(_PLAIN),
        share(_PLAIN if "fp32" in name else "plain PyTorch, bf16"),
        f"{1e3 * given.seconds:.1f}",
        f"{given.seconds / turns[base].seconds:.2f}x" if base in turns else "",
    ]


def _step_bytes(given: Turns) -> int:
    return given.peak - given.before
