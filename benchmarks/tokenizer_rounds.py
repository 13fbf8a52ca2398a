"""Runs the jobs of `tokenizer.py`, each in a process of its own and in turns, and prints tables in markdown."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_MEASURE = Path(__file__).with_name("tokenizer_measure.py")


class Failed(Exception):
    """A contender that cannot run, with what to put in the table."""


def installed(package: str) -> bool:
    return find_spec(package.removesuffix("-v1")) is not None


def answer(job: dict[str, Any], package: str) -> dict[str, Any]:
    """Do a job in a new process; Failed in one line if that does not work."""
    if not installed(package):
        raise Failed("not installed")
    threads = str(job["threads"])
    environment = os.environ | {
        "RAYON_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false" if threads == "1" else "true",
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        path.write_text(json.dumps(job))
        command = [sys.executable, str(_MEASURE), str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise Failed(f"failed: {reason[:160]}")
        return json.loads(path.read_text())


def print_machine(packages: Iterable[str]) -> None:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=_MEASURE.parent, capture_output=True, text=True
    ).stdout.strip()
    print(f"`{' '.join(['python', *sys.argv])}`\n")
    print(f"{processor}, {len(os.sched_getaffinity(0))} processors, {platform.platform()}, ", end="")
    print(f"Python {platform.python_version()}, {time.strftime('%Y-%m-%d %H:%M')}, {load()}.")
    print(f"groundup {commit}, {', '.join(f'{name} {_version(name)}' for name in packages)}.\n")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def load() -> str:
    return "load average {:.2f} {:.2f} {:.2f}".format(*os.getloadavg())


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        print(f"| {' | '.join([*row, *[''] * (len(header) - len(row))])} |")
    print(flush=True)


def note(words: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


class Rounds:
    """Measurements by key, made in turns; a contender that failed once is not tried again."""

    def __init__(self) -> None:
        self.answers: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
        self.failures: dict[Any, str] = {}

    def measure(self, key: Any, job: dict[str, Any], package: str) -> dict[str, Any] | None:
        if key in self.failures:
            return None
        try:
            given = answer(job, package)
        except Failed as failed:
            self.failures[key] = str(failed)
            note(f"{package} {key}: {failed}")
            return None
        note(f"{package} {key}: done")
        self.answers[key].append(given)
        return given

    def median(self, key: Any, field: str) -> float:
        return statistics.median(given[field] for given in self.answers[key])
