"""Runs the contenders of `training.py`: a process each, kept alive and asked for steps in turns."""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import psutil

from tokenizer_rounds import Failed, note
from training_contenders import ALL, PEAK
from training_worker import Job

_WORKER = Path(__file__).with_name("training_worker.py")
# Between turns, so that threads which spin at the end of parallel work have come to rest.
_PAUSE_SECONDS = 0.1
_WARM_UP_STEPS = 3
_LEAST_FREE_BYTES = 2 << 30

SHAPES = {
    "M": {"layers": 6, "width": 384, "heads": 6, "context": 256, "batch": 8},
    "S": {"layers": 4, "width": 128, "heads": 4, "context": 64, "batch": 12},
}


@dataclass
class Turns:
    """What a contender has answered so far."""

    parameters: int
    in_blocks: int
    before: int
    """Bytes of resident memory before there is a model; groundup's packages count here, of peers only torch."""
    versions: dict[str, str]
    settings: dict[str, Any] | None = None
    seconds_a_step: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    peak: int = 0

    @property
    def seconds(self) -> float:
        """A step's time: the median over the turns."""
        return statistics.median(self.seconds_a_step)


def peak_flops(turns: dict[str, Turns]) -> float:
    """FLOP/s of the fastest of the products of matrices that were measured."""
    sizes = {name: ALL[name].options["sizes"] for name in PEAK if name in turns}
    return max((2.0 * math.prod(size) / turns[name].seconds for name, size in sizes.items()), default=math.nan)


def flops_per_token(in_blocks: int, job: Job) -> float:
    """6 N + 12 L d T (Chowdhery et al. 2022, arXiv:2204.02311, B), N without embeddings and unembedding."""
    return 6.0 * in_blocks + attention_flops(job)


def attention_flops(job: Job) -> float:
    """The part of the FLOPs of a token that grows with the context."""
    return 12.0 * job.layers * job.width * job.context


class Worker:
    """A contender's process. Raises Failed, in one line, when it does not answer."""

    def __init__(self, job: Job, folder: Path, python: str):
        self.job, self._log = job, folder / "log.txt"
        path = folder / "job.json"
        path.write_text(json.dumps(asdict(job)))
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [python, str(_WORKER), str(path)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=_environment(job),
            )  # fmt: skip
        self.turns = Turns(**self._answer())

    def ask(self, steps: int) -> float:
        """Let it take so many steps; returns and keeps the seconds that one took."""
        assert self._process.stdin
        try:
            print(steps, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise Failed(self._reason()) from None
        answer = self._answer()
        self.turns.losses += answer["losses"]
        self.turns.peak = answer["peak"]
        return answer["seconds"] / steps

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise Failed(self._reason())
        return json.loads(line)

    def _reason(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f"failed: {lines[-1] if lines else f'exit code {self._process.returncode}'}"[:200]


def _environment(job: Job) -> dict[str, str]:
    # Compiling in the process itself: a pool of compilers would stay and take memory.
    fixed = {"OMP_NUM_THREADS": str(job.threads), "MKL_NUM_THREADS": str(job.threads)}
    fixed |= {"TORCHINDUCTOR_COMPILE_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    return os.environ | fixed | ALL[job.contender].environment


class Rounds:
    """Contenders that take turns on one job; those that fail are left out, with the reason in `failures`."""

    def __init__(self, job: Job, names: Iterable[str], peers_python: str):
        self.failures: dict[str, str] = {}
        self.workers: dict[str, Worker] = {}
        self._job, self._names, self._python = job, list(names), peers_python
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        for number, name in enumerate(self._names):
            with self._noting(name):
                own = folder / str(number)
                own.mkdir()
                self._start(name, own)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, name: str, folder: Path) -> None:
        contender = ALL[name]
        if contender.source and contender.source not in self._job.sources:
            raise Failed(f"not run: --{contender.source} was not given")
        python = sys.executable if name.startswith("groundup") else self._python
        if contender.package and not _has(python, contender.package):
            raise Failed(f"not run: {contender.package} is not installed in {python}")
        if psutil.virtual_memory().available < _LEAST_FREE_BYTES:
            raise Failed("not run: too little memory is left beside the others; choose some with --only")
        worker = Worker(replace(self._job, contender=name, options=contender.options), folder, python)
        self._stack.callback(worker.close)
        for _ in range(_WARM_UP_STEPS):
            seconds = worker.ask(1)
        self.workers[name] = worker
        note(f"{name}: {worker.turns.parameters:,} parameters, {1e3 * seconds:.0f} ms a step, warm")

    def run(self, rounds: int, seconds: float) -> None:
        """So many rounds in which each takes steps for about `seconds`; who begins changes from round to round."""
        steps: dict[str, int] = {}
        for round_ in range(rounds):
            first = round_ % max(1, len(self.workers))
            names = list(self.workers)
            for name in names[first:] + names[:first]:
                with self._noting(name):
                    time.sleep(_PAUSE_SECONDS)
                    worker = self.workers[name]
                    if name not in steps:
                        steps[name] = max(1, round(seconds / worker.ask(1)))
                    worker.turns.seconds_a_step.append(worker.ask(steps[name]))
            note(f"round {round_ + 1} of {rounds}")

    def continue_to(self, steps: int, names: Iterable[str]) -> None:
        """Let those named go on, unmeasured, until they have taken so many steps."""
        for name in names:
            if name in self.workers and (missing := steps - len(self.workers[name].turns.losses)) > 0:
                with self._noting(name):
                    self.workers[name].ask(missing)
                    note(f"{name}: {steps} steps")

    @contextmanager
    def _noting(self, name: str) -> Iterator[None]:
        """Take a contender that fails out of the rounds."""
        try:
            yield
        except Failed as failure:
            self.failures[name] = str(failure)
            self.workers.pop(name, None)
            note(f"{name}: {failure}")

    def turns(self) -> dict[str, Turns]:
        """What those that went through have answered."""
        return {name: worker.turns for name, worker in self.workers.items()}


def _has(python: str, package: str) -> bool:
    find = f"import importlib.util as u, sys; sys.exit(u.find_spec({package!r}) is None)"
    return subprocess.run([python, "-c", find]).returncode == 0
