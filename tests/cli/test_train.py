"""`groundup train` in one process and in two, started, stopped and killed as a user would."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from groundup.plan.cluster.devices import Cluster, parse_hardware
from groundup.plan.cluster.launch import emit
from groundup.plan.cluster.layout import Layout
from tests.cli.support import GROUNDUP, TINY, Result, losses

# In float32, without Muon, whose products are in bfloat16, and in small steps: gradients that are added in another
# order are rounded differently, and large steps make more of that from one to the next.
OPTIONS = ["tiny", *TINY[2:], "--budget", "60steps"]
for _setting in (
    "train.optimizer=adamw", "train.lr=1e-3", "train.precision=fp32", "train.compile=off",
    "train.checkpoint_steps=10", "train.validations=2", "sample.tokens=4",
):  # fmt: skip
    OPTIONS += ["--set", _setting]


TWO = ["--nproc", "2", "--set", "parallel.zero=1"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """A run of one process, its losses those that every other run must have."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert _train(folder, text_file).returncode == 0
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """The run of two processes that nothing disturbed."""
    folder = tmp_path_factory.mktemp("together") / "run"
    done = _train(folder, text_file, *TWO, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((folder / "outcome.json").read_text())
    return folder


def _train(folder: Path, text_file: Path, *arguments: str) -> Result:
    options = [OPTIONS[0], str(text_file), *OPTIONS[1:], *arguments, "--out", str(folder)]
    return subprocess.run([*GROUNDUP, "train", *options], capture_output=True, text=True, timeout=200)


def _start(folder: Path, text_file: Path, output: Path, *arguments: str) -> subprocess.Popen[bytes]:
    options = [OPTIONS[0], str(text_file), *OPTIONS[1:], *arguments, "--out", str(folder)]
    with output.open("wb") as file:
        return subprocess.Popen([*GROUNDUP, "train", *options], stdout=file, stderr=subprocess.STDOUT)


def _wait_for(process: subprocess.Popen[bytes], folder: Path, steps: int) -> None:
    metrics = folder / "metrics.jsonl"
    while process.poll() is None and (not metrics.exists() or metrics.read_bytes().count(b"\n") < steps):
        time.sleep(0.01)
    assert process.poll() is None, "it ended before it could be stopped"


def _worker(process: subprocess.Popen[bytes], rank: int) -> psutil.Process:
    for child in psutil.Process(process.pid).children(recursive=True):
        if child.environ().get("RANK") == str(rank):
            return child
    raise AssertionError(f"there is no process {rank}")


def _same_losses(run: Path, alone: Path) -> None:
    assert [step for step, _ in losses(run)] == list(range(1, 61))
    assert [loss for _, loss in losses(run)] == pytest.approx([loss for _, loss in losses(alone)], rel=1e-5)


def test_two_processes_learn_what_one_does(alone: Path, together: Path, text_file: Path) -> None:
    single, outcome = (json.loads((run / "outcome.json").read_text()) for run in (alone, together))
    assert (single["devices"], outcome["devices"]) == (1, 2)
    assert outcome["loss"] == pytest.approx(single["loss"], rel=1e-5)
    _same_losses(together, alone)
    assert (together / "model" / "model.safetensors").is_file()
    again = _train(together, text_file, *TWO)
    assert (again.returncode, "finished" in again.stdout) == (0, True), again.stderr


def test_ctrl_c_saves_and_the_same_command_goes_on(alone: Path, text_file: Path, tmp_path: Path) -> None:
    run, output = tmp_path / "run", tmp_path / "output.txt"
    process = _start(run, text_file, output, *TWO)
    _wait_for(process, run, 25)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    text = output.read_text("utf-8")
    assert len(re.findall("stopped at step", text)) == 1
    assert "--resume --out" in text
    assert "Traceback" not in text
    # On one device, as on any other layout, it goes on where it was.
    done = _train(run, text_file)
    assert done.returncode == 0, done.stderr
    assert "continuing after step" in done.stdout
    _same_losses(run, alone)


def test_processes_that_are_killed_are_started_again(together: Path, text_file: Path, tmp_path: Path) -> None:
    """First one that waits for the others, then the one that they wait for."""
    run, output = tmp_path / "run", tmp_path / "output.txt"
    process = _start(run, text_file, output, *TWO, "--max-restarts", "2")
    for rank, steps in ((1, 15), (0, 42)):
        _wait_for(process, run, steps)
        os.kill(_worker(process, rank).pid, signal.SIGKILL)
    assert process.wait(timeout=150) == 0, output.read_text()
    text = output.read_text("utf-8")
    assert text.count("continuing after step") == 2
    assert "Traceback" not in text
    assert losses(run) == losses(together)


def test_without_restarts_a_kill_is_one_line(text_file: Path, tmp_path: Path) -> None:
    run, output = tmp_path / "run", tmp_path / "output.txt"
    process = _start(run, text_file, output, "--nproc", "2")
    _wait_for(process, run, 5)
    os.kill(_worker(process, 1).pid, signal.SIGKILL)
    assert process.wait(timeout=60) == 2
    lines = output.read_text("utf-8").splitlines()
    (error,) = [line for line in lines if line.startswith("error:")]
    assert "process 1 of 2 was killed by SIGKILL" in error
    assert f"--out {run}" in error
    assert not [line for line in lines if "Traceback" in line or "torch/distributed/elastic" in line]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--nproc", "3", "--set", "parallel.tensor=2"], ["tensor=2", "3 devices"]),
        (["--nproc", "2", "--set", "train.precision=fp16"], ["fp16", "bf16 or fp32"]),
        (["--max-restarts", "2"], ["--nproc"]),
        (["--set", "parallel.tensor=2"], ["1 device", "--nproc 2"]),
        # What only the first of the processes can find out.
        (["--nproc", "2", "--max-restarts", "2", "--set", "train.batch_size=7"], ["batch_size=7", "6 or 8"]),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str], parts: list[str], text_file: Path, tmp_path: Path
) -> None:
    done = _train(tmp_path / "run", text_file, *arguments)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "Warning" not in line]
    assert line.startswith("error: ")
    for part in parts:
        assert part in line
    assert not (tmp_path / "run").exists()


def test_held_out_text_without_a_whole_window_is_refused(text_file: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.txt"
    few.write_text("a few words")
    done = _train(tmp_path / "run", text_file, "--nproc", "2", "--set", f'data.validation=["{few}"]')
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "Warning" not in line]
    assert line.startswith("error: the held-out text has")
    assert "data.validation" in line


def test_another_recipe_does_not_go_on_with_a_run(alone: Path, text_file: Path) -> None:
    done = _train(alone, text_file, "--set", "train.lr=0.1")
    assert (done.returncode, "finished" in done.stdout) == (0, True)
    outcome = alone / "outcome.json"
    kept = outcome.read_bytes()
    outcome.unlink()
    try:
        done = _train(alone, text_file, "--set", "train.lr=0.1")
        assert done.returncode == 2
        assert "train.lr=0.001, not 0.1" in done.stderr
    finally:
        outcome.write_bytes(kept)


def test_the_launch_file_of_torchrun_works_as_it_is(
    text_file: Path, tmp_path: Path, groundup: Callable[..., Result]
) -> None:
    """Run by bash, with 2 processes on this machine's CPU, twice: the second time it finds the run finished."""
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        f'name = "mine"\nbudget = "4steps"\n[data]\nsources = ["{text_file}"]\nholdout_bytes = 8192\n'
        "[tokenizer]\nvocabulary_size = 300\n[model]\nnum_layers = 2\nwidth = 64\nnum_heads = 2\n"
        "num_kv_heads = 2\nfeedforward_width = 128\ncontext = 64\n[train]\nthreads = 1\nvalidation_tokens = 2048\n"
        'lr = 1e-3\noptimizer = "adamw"\nprecision = "fp32"\n[sample]\ntokens = 2\n'
    )
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "groundup").write_text(f"#!/bin/sh\nexec {GROUNDUP[0]} -c '{GROUNDUP[2]}' \"$@\"\n")
    (programs / "torchrun").write_text(f'#!/bin/sh\nexec {GROUNDUP[0]} -m torch.distributed.run "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    two: Cluster = parse_hardware("h100x2")
    layout = Layout(data=1, tensor=2, micro_batch=2, accumulation=2)
    (tmp_path / "launch.sh").write_text(emit("torchrun", layout, two, str(recipe)))
    for _ in range(2):
        done = subprocess.run(
            ["bash", "launch.sh"],
            cwd=tmp_path,
            env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "GLOO_SOCKET_IFNAME": "lo"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
    assert "finished" in done.stdout
    outcome = json.loads((tmp_path / "runs" / "mine-groundup" / "outcome.json").read_text())
    assert (outcome["devices"], outcome["steps"]) == (2, 4)
