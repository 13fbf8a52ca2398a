"""The step of one process against that of another version of groundup, in turns in the same run.

python benchmarks/step_against.py OTHER/src        (a checkout of the other version)

Both versions are there at once, each in a process that sleeps while the other works; every turn gives one ratio.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

SIZES = {
    "tiny": {"num_layers": 2, "width": 64, "num_heads": 2, "num_kv_heads": 1, "head_width": 32,
             "feedforward_width": 192, "vocabulary_size": 512, "context": 64},
    "M": {"num_layers": 6, "width": 384, "num_heads": 6, "num_kv_heads": 3, "head_width": 64,
          "feedforward_width": 1024, "vocabulary_size": 4096, "context": 256},
}  # fmt: skip
STEPS_AND_TURNS = {"tiny": (25, 40), "M": (2, 22)}


def work() -> None:
    """Take as many steps as each line of standard input says, and say how long one took."""
    import numpy as np

    from groundup.model.registry import build
    from groundup.objective import CAUSAL
    from groundup.recipe import TrainRecipe
    from groundup.shape import Shape
    from groundup.train.device import set_threads
    from groundup.train.step import TrainStep

    set_threads(None)
    steps = {}
    for name, size in SIZES.items():
        model = build(Shape(family="qwen3", **size))  # type: ignore[arg-type]
        settings = TrainRecipe(batch_size=8)
        step = TrainStep(model, CAUSAL, settings, precision="bf16", device="cpu")
        windows = np.random.default_rng(0).integers(0, size["vocabulary_size"], (8, size["context"] + 1))
        steps[name] = step, windows
    for line in sys.stdin:
        name, count = line.split()
        step, windows = steps[name]
        step(windows, 1e-6)
        before = time.perf_counter()
        for _ in range(int(count)):
            step(windows, 1e-6)
        print((time.perf_counter() - before) / int(count), flush=True)


def compare(other: Path) -> None:
    here = Path(__file__).resolve().parents[1] / "src"
    workers = {name: _start(source) for name, source in (("this", here), ("other", other))}
    for size, (steps, turns) in STEPS_AND_TURNS.items():
        seconds: dict[str, list[float]] = {"this": [], "other": []}
        for turn in range(turns):
            for name in ("this", "other") if turn % 2 else ("other", "this"):
                seconds[name].append(_ask(workers[name], f"{size} {steps}\n"))
        ratios = [other_ / this for this, other_ in zip(*seconds.values(), strict=True)]
        first, middle, third = statistics.quantiles(ratios, n=4)
        this, that = (1e3 * statistics.median(seconds[name]) for name in ("this", "other"))
        print(f"{size}: {middle:.3f} of its speed ({first:.3f} to {third:.3f}); {this:.2f} ms, other {that:.2f}")


def _start(source: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, __file__, "--work"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(source)},
    )


def _ask(worker: "subprocess.Popen[str]", line: str) -> float:
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(line)
    worker.stdin.flush()
    return float(worker.stdout.readline())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path, nargs="?")
    parser.add_argument("--work", action="store_true")
    arguments = parser.parse_args()
    if arguments.work:
        work()
    else:
        compare(arguments.other)
