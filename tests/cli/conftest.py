"""The command line as a user has it: a process, its output, its exit code."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import GROUNDUP, Result, make_text


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 kB of text in one file."""
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text(make_text(300_000), "utf-8")
    return path


@pytest.fixture
def groundup(tmp_path: Path) -> Callable[..., Result]:
    """Run `groundup ARGUMENTS` in an empty folder."""

    def run(*arguments: str | Path, stdin: bytes | None = None) -> Result:
        finished = subprocess.run(
            [*GROUNDUP, *map(str, arguments)], cwd=tmp_path, input=stdin, capture_output=True, timeout=240
        )
        return subprocess.CompletedProcess(
            finished.args, finished.returncode, finished.stdout.decode(), finished.stderr.decode()
        )

    return run


@pytest.fixture
def build(groundup: Callable[..., Result]) -> Callable[..., dict[str, Any]]:
    """Run `groundup build --json` and give the outcome; the exit code must be 0."""

    def run(*arguments: str | Path, stdin: bytes | None = None) -> dict[str, Any]:
        finished = groundup("build", *arguments, "--json", stdin=stdin)
        assert finished.returncode == 0, finished.stderr
        outcome: dict[str, Any] = json.loads(finished.stdout)
        return outcome

    return run


@pytest.fixture
def build_and_stop(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Start a build, send it a signal when it has taken `steps` steps, wait; its exit code and output."""

    def run(run_folder: Path, number: signal.Signals, steps: int, *arguments: str | Path) -> tuple[int, str]:
        command = [*GROUNDUP, "build", *map(str, arguments), "--out", str(run_folder)]
        output = tmp_path / "stopped.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=tmp_path)
            metrics = run_folder / "metrics.jsonl"
            while process.poll() is None and (not metrics.exists() or metrics.read_bytes().count(b"\n") < steps):
                time.sleep(0.01)
            os.kill(process.pid, number)
            code = process.wait(timeout=60)
        return code, output.read_text("utf-8")

    return run
