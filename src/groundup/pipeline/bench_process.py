"""Trials of a training step, each in a process of its own.

A process a trial, for three reasons: the allocator and the compiler keep what they once took, so that the peak
memory of a second trial would be that of the first, although Linux can count the peak anew; a trial that the
system kills for want of memory takes nothing else with it; and each starts from the same state.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import groundup
from groundup.plan.flops import train_flops_per_token
from groundup.plan.hardware import Hardware, Precision
from groundup.recipe import TrainRecipe
from groundup.shape import Shape


@dataclass(frozen=True)
class Trial:
    """A model, its batch and the settings of its training, on this machine.

    `settings` has every field that decides a step filled in: micro_batch, recompute, and compile `on` or `off`.
    """

    shape: Shape
    settings: TrainRecipe
    batch_size: int
    precision: Precision
    device: str
    threads: int
    seed: int

    @property
    def micro_batch(self) -> int:
        """Sequences in a forward pass."""
        return min(self.settings.micro_batch or self.batch_size, self.batch_size)

    @property
    def accumulation(self) -> int:
        """Forward and backward passes in a step."""
        return -(-self.batch_size // self.micro_batch)

    @property
    def step_tokens(self) -> int:
        """Targets in a step."""
        return self.batch_size * self.shape.context

    def with_(self, **settings: Any) -> "Trial":
        """The same with other fields of `settings`."""
        return replace(self, settings=self.settings.model_copy(update=settings))

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return self.__dict__ | {"shape": self.shape.model_dump(), "settings": self.settings.model_dump()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The trial that `as_json` wrote down."""
        given = {"shape": Shape(**values["shape"]), "settings": TrainRecipe(**values["settings"])}
        return cls(**values | given)


def measure(
    trial: Trial, seconds: float, hardware: Hardware, *, most_seconds: float | None = None
) -> dict[str, Any]:
    """Time steps for about `seconds`: their times, peak memory, tokens/s, FLOP/s and share of the measured peak.

    Where it fails, or takes more than `most_seconds` in all, there is only `error`, which says why in one line.
    """
    row = run("measure", trial, seconds, most_seconds=most_seconds)
    if "error" in row:
        return row
    rate = trial.step_tokens / row["step_seconds"]
    flops = rate * train_flops_per_token(trial.shape)
    return row | {
        "tokens_per_second": rate,
        "flops_per_second": flops,
        "utilisation": flops / hardware.flops(trial.precision),
    }


def run(
    kind: Literal["measure", "profile"],
    trial: Trial,
    seconds: float,
    *,
    most_seconds: float | None = None,
    timeline: Path | None = None,
) -> dict[str, Any]:
    """What `bench_worker` finds of a trial; a dictionary with only `error` where it fails or takes too long."""
    job = {
        "kind": kind,
        "trial": trial.as_json(),
        "seconds": seconds,
        "timeline": str(timeline) if timeline else None,
        "parent": os.getpid(),
    }
    # The worker must find this very package, and nothing else in the caller's current folder (-P).
    paths = [str(Path(groundup.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "groundup.pipeline.bench_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the worker
        text=True,
        errors="replace",
    )
    try:
        answer, said = process.communicate(json.dumps(job), most_seconds)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {most_seconds:.0f} s"}
    finally:
        process.kill()
        process.wait()
    if process.returncode < 0:
        return {"error": f"ended by signal {-process.returncode}{_for_want_of_memory(-process.returncode)}"}
    if not answer:
        return {"error": (said.strip().splitlines() or [f"ended with status {process.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(answer)
    return found


def _for_want_of_memory(signal: int) -> str:
    return ", most likely by the system for want of memory" if signal == 9 else ""
