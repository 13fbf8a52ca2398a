"""`training.py stall`: what a build's loop does beside its steps, and what the build does beside training.

The build runs in a process of its own in which the trainer's methods are timed, by the main thread alone: what
is done elsewhere meanwhile costs nothing here, but may slow the steps. So the time that steps took above their
median is stated too (with compilation and warm-up in the first ones).
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizer_rounds import load, print_machine, print_table

_STEP, _LOOP, _DATA = "steps", "everything else in the loop", "waiting for batches"
_VALIDATE, _SAMPLES, _SAVE = "evaluation", "samples", "checkpoints"


def stall(arguments: argparse.Namespace) -> None:
    """The table of a build."""
    with tempfile.TemporaryDirectory() as folder:
        run, traced = Path(folder) / "run", Path(folder) / "trace.json"
        command = ["build", arguments.text, "--budget", arguments.budget, "--out", str(run), "--json"]
        command += [word for setting in arguments.set for word in ("--set", setting)]
        environment = os.environ | {"GROUNDUP_CACHE": str(Path(folder) / "cache")}
        subprocess.run(
            [sys.executable, __file__, str(traced), *command],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        trace, outcome = json.loads(traced.read_text()), json.loads((run / "outcome.json").read_text())
    print_machine(("torch",))
    spent, steps = trace["seconds"], trace["steps"]
    loop = sum(spent.values())
    print(
        f"`groundup build {arguments.text} --budget {arguments.budget}`: {len(steps):,} steps, loop {loop:.2f} s\n"
    )
    rows = [[name, f"{spent.get(name, 0.0):.3f}", f"{spent.get(name, 0.0) / loop:.2%}"] for name in _ORDER]
    beside = loop - spent[_STEP]
    rows.append(["**all beside the steps**", f"{beside:.3f}", f"{beside / loop:.2%}"])
    above = sum(steps) - len(steps) * statistics.median(steps)
    rows.append(
        [f"{_STEP}, above {1e3 * statistics.median(steps):.1f} ms each", f"{above:.3f}", f"{above / loop:.2%}"]
    )
    print_table(("in the training loop", "seconds", "share"), rows)
    total = outcome["total_seconds"]
    stages = sorted(outcome["stages"].items(), key=lambda stage: -stage[1])
    print_table(
        ("stage of the build", "seconds", "share"), [[n, f"{s:.2f}", f"{s / total:.1%}"] for n, s in stages]
    )
    print(load())
    if arguments.json:
        arguments.json.write_text(json.dumps({"trace": trace, "outcome": outcome}, indent=1))


_ORDER = (_STEP, _DATA, _VALIDATE, _SAMPLES, _SAVE, _LOOP)


class Tracer:
    """Seconds of the main thread by part, each without the parts called inside it."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.steps: list[float] = []
        self._inside: list[float] = []

    def timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """The function, with its time booked under `part`."""

        @functools.wraps(function)
        def run(*arguments: Any, **named: Any) -> Any:
            beside = threading.current_thread() is not threading.main_thread()
            if beside or (part != _LOOP and not self._inside):  # or steps of the plan, before training
                return function(*arguments, **named)
            began = time.perf_counter()
            self._inside.append(0.0)
            try:
                return function(*arguments, **named)
            finally:
                seconds = time.perf_counter() - began
                self.seconds[part] += seconds - self._inside.pop()
                if self._inside:
                    self._inside[-1] += seconds
                if part == _STEP:
                    self.steps.append(seconds)

        return run

    def install(self) -> None:
        """Time the methods of the trainer and of the run's hooks."""
        from groundup.pipeline.hooks import RunHooks
        from groundup.train.checkpoint_writer import CheckpointWriter
        from groundup.train.prefetch import Prefetch
        from groundup.train.step import TrainStep
        from groundup.train.trainer import Trainer

        parts = (
            (Trainer, "train", _LOOP),
            (Prefetch, "windows", _DATA),
            (Trainer, "validate", _VALIDATE),
            (Trainer, "save", _SAVE),
            (CheckpointWriter, "wait", _SAVE),
            (RunHooks, "on_validation", _SAMPLES),
            (TrainStep, "__call__", _STEP),
        )
        for owner, name, part in parts:
            setattr(owner, name, self.timed(getattr(owner, name), part))


def main() -> None:
    """In the process of the build: trace it, with the command line after the file for the trace."""
    from groundup.cli.main import main as groundup

    file, *command = sys.argv[1:]
    tracer = Tracer()
    tracer.install()
    code = groundup(command)
    Path(file).write_text(json.dumps({"seconds": tracer.seconds, "steps": tracer.steps}))
    raise SystemExit(code)


if __name__ == "__main__":
    main()
