"""One contender of `training.py` in a process of its own: `training_worker.py JOB.json`.

It starts, says what it is, and then takes as many steps as each line of its standard input asks for; answers
are JSON lines on its standard output, while whatever the framework prints goes to standard error. The time of a
request runs from its arrival to the end of its last step. Linux only, for /proc.
"""

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Windows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Job:
    """What to train on what: the same for every contender of a comparison but `contender` and `options`."""

    contender: str
    options: dict[str, Any]
    layers: int
    width: int
    heads: int
    context: int
    batch: int
    vocabulary: int
    ids: str | None = None
    """A .npy file of token ids; None: random ones."""
    threads: int = 2
    lr: float = 1e-3
    warmup: int = 100
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.1
    clip: float = 1.0
    seed: int = 1337
    sources: dict[str, str] = field(default_factory=dict)
    """Where the peers are, by name: checkouts, and the program of llm.c."""

    def rate(self, step: int) -> float:
        """The learning rate: a linear warm-up, then constant, so that it does not depend on the length."""
        return self.lr * min(1.0, (step + 1) / (self.warmup + 1))

    @property
    def llama_feedforward(self) -> int:
        """8/3 of the width, so that three matrices have the parameters of two that are 4 times as wide."""
        return math.ceil(self.width * 8 / 3 / 8) * 8


class Batches:
    """Batch s is a function of the seed and s: windows (B, T + 1) at random places, as nanoGPT draws them."""

    def __init__(self, job: Job):
        self._job = job
        random = np.random.default_rng(job.seed)
        self._ids = np.load(job.ids) if job.ids else random.integers(0, job.vocabulary, 1 << 20, dtype=np.uint16)
        assert self._ids.max() < job.vocabulary, "the ids do not fit the vocabulary"
        self._length = np.arange(job.context + 1)

    def windows(self, step: int) -> Windows:
        """The batch of a step."""
        random = np.random.default_rng((self._job.seed, step))
        starts = random.integers(0, len(self._ids) - self._job.context, self._job.batch)
        return self._ids[starts[:, None] + self._length].astype(np.int64)


class Gate:
    """Stands in a training loop, which calls `passed` after every step and waits there until more are asked for.

    Leaving is raising SystemExit: frameworks with a loop of their own need not know of it.
    """

    def __init__(self, channel: Any):
        self._channel, self._wanted, self._began = channel, 0, 0.0
        self._losses: list[float] = []
        self._before = memory("VmRSS")
        self.pid = os.getpid()

    def imported(self) -> None:
        """Count what the process holds now, with its packages, as held before there is a model."""
        self._before = memory("VmRSS")

    def ready(self, parameters: int, in_blocks: int, **more: Any) -> None:
        """Say that the model is there, with its parameters in all and without embeddings; wait for a request."""
        self._say(parameters=parameters, in_blocks=in_blocks, before=self._before, versions=versions(), **more)
        self._forget_peak()
        self._next()

    def passed(self, loss: float) -> None:
        """A step was taken; `loss` is that of its batch before the step."""
        self._losses.append(loss)
        if len(self._losses) == self._wanted:
            self.answer(time.perf_counter() - self._began, self._losses)
            self._next()

    def answer(self, seconds: float, losses: list[float], **more: Any) -> None:
        """Answer a request."""
        self._say(seconds=seconds, losses=losses, peak=memory("VmHWM", self.pid), **more)

    def requests(self) -> Iterator[int]:
        """Steps wanted, for contenders that take and time them elsewhere and then `answer`."""
        while True:
            yield self._wanted
            self._next()

    def _next(self) -> None:
        line = sys.stdin.readline()
        if not line:
            raise SystemExit
        self._wanted, self._losses = int(line), []
        self._began = time.perf_counter()

    def _say(self, **answer: Any) -> None:
        self._channel.write(json.dumps(answer) + "\n")
        self._channel.flush()

    def _forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


def memory(field: str, pid: int | str = "self") -> int:
    """Bytes of resident memory, now (VmRSS) or at most so far (VmHWM); getrusage would count the parent's too."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) * 1024


def versions() -> dict[str, str]:
    """Of the packages that are loaded."""
    names = ("torch", "transformers", "accelerate", "lightning", "groundup")
    return {name: getattr(sys.modules[name], "__version__", "?") for name in names if name in sys.modules}


def main() -> None:
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    import torch

    from training_contenders import ALL

    torch.set_num_threads(job.threads)
    gate = Gate(channel)
    ALL[job.contender].train(job, Batches(job), gate)


if __name__ == "__main__":
    main()
