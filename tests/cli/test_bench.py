"""`groundup bench`, end to end through the real command line."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from groundup.cli.main import main
from groundup.pipeline.bench_sweep import AXES
from tests.cli.support import GROUNDUP, Result

Cli = Callable[..., Result]
BENCH = ["bench", "tiny", "--set", "train.threads=1", "--seconds", "0.1"]
EAGER = ["--set", "train.compile=off"]
SWEEP = [
    *BENCH, "--sweep", "--over", "micro_batch=4,8", "--over", "accumulation=fixed", "--over", "recompute=none",
    "--over", "precision=fp32", "--over", "compile=off",
]  # fmt: skip


@pytest.fixture
def bench(groundup: Cli) -> Callable[..., dict[str, Any]]:
    """Run it with `--json`; the outcome, which must be the only thing on standard output."""

    def run(*arguments: str | Path) -> dict[str, Any]:
        finished = groundup(*arguments, "--json")
        assert finished.returncode == 0, finished.stderr
        assert "\n" not in finished.stdout.rstrip("\n")
        outcome: dict[str, Any] = json.loads(finished.stdout)
        return outcome

    return run


def points(folder: Path) -> list[tuple[Any, ...]]:
    rows = [json.loads(line) for line in (folder / "sweep.jsonl").read_text().splitlines()]
    return [tuple(row[axis] for axis in AXES) for row in rows]


def test_a_recipe_is_measured(bench: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    outcome = bench(*BENCH, *EAGER, "--set", "train.precision=fp32", "--set", "train.micro_batch=4")
    assert (outcome["recipe"], outcome["threads"], outcome["precision"]) == ("tiny", 1, "fp32")
    assert (outcome["batch_size"], outcome["micro_batch"], outcome["accumulation"]) == (8, 4, 2)
    assert outcome["step_tokens"] == 8 * 64
    assert outcome["chosen_by_the_planner"] == []
    (measured,) = outcome["measurements"]
    assert measured["compile"] == "off"
    assert outcome["tokens_per_second"] == measured["tokens_per_second"] == 512 / measured["step_seconds"]
    peak = outcome["hardware"]["flops_fp32"]
    assert outcome["utilisation"] == pytest.approx(outcome["flops_per_second"] / peak)
    assert outcome["peak_bytes"] > outcome["start_bytes"] > 50e6
    assert outcome["compiling"] is None
    assert list(tmp_path.iterdir()) == []


def test_what_the_recipe_leaves_open_is_chosen_and_said(groundup: Cli) -> None:
    options = [*EAGER, "--set", "budget=20s", "--set", "model.family=gpt2", "--set", "train.batch_size=2"]
    shown = groundup("bench", "default", "--seconds", "0", "--set", "train.threads=1", *options)
    assert shown.returncode == 0, shown.stderr
    assert "the planner chose num_layers, width, context, vocabulary_size for a budget of 20s" in shown.stdout
    assert "gpt2" in shown.stdout
    assert "random tokens" in shown.stdout
    assert "tokens/s" in shown.stdout


def test_compiling_that_fails_is_told_and_not_fatal(tmp_path: Path) -> None:
    # Both are tried, since the recipe leaves it open; without a C++ compiler one of them fails.
    environment = os.environ | {"CXX": "/no/such/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    finished = subprocess.run(
        [*GROUNDUP, *BENCH, "--set", "model.num_layers=1", "--json"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    outcome = json.loads(finished.stdout)
    eager, compiled = outcome["measurements"]
    assert compiled.keys() == {"compile", "error"}
    assert outcome["tokens_per_second"] == eager["tokens_per_second"]
    assert outcome["compile"] == "off"
    assert "warning: compiled: " in finished.stderr


def test_a_profile_and_the_memory_of_a_step(bench: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    outcome = bench(*BENCH, "--profile", "step.json", "--memory")
    profile, folder = outcome["profile"], tmp_path / outcome["folder"]
    assert outcome["folder"] == "runs/bench-1"
    assert sum(row["seconds"] for row in profile["kinds"]) == pytest.approx(profile["step_seconds"])
    assert json.loads((tmp_path / "step.json").read_text())["traceEvents"]
    assert "Where the time of a step goes" in (folder / "profile.html").read_text("utf-8")
    # Weights, gradients and two moments, 4 bytes each.
    assert outcome["memory"]["peak_bytes"] > 16 * outcome["parameters"]
    assert (tmp_path / outcome["memory"]["page"]).is_file()
    assert json.loads((folder / "bench.json").read_text()) == outcome


def test_a_sweep_that_is_killed_goes_on(
    groundup: Cli, bench: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "bench-1"
    rows = folder / "sweep.jsonl"
    process = subprocess.Popen([*GROUNDUP, *SWEEP], cwd=tmp_path, stdout=subprocess.DEVNULL)
    while process.poll() is None and not (rows.is_file() and rows.read_bytes().count(b"\n")):
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    if sys.platform.startswith("linux"):
        _, alive = psutil.wait_procs(workers, timeout=20)
        assert alive == []
    with rows.open("a") as file:
        file.write('{"micro_batch": 8, "accumul')  # as if it had been killed while writing
    first = rows.read_text().splitlines()[0]

    outcome = bench(*SWEEP)
    assert outcome["folder"] == "runs/bench-1"
    assert rows.read_text().splitlines()[0] == first
    # The recipe's own way first, then its batch in two parts.
    assert points(folder) == [(8, 1, "none", "fp32", "off"), (4, 2, "none", "fp32", "off")]
    for row in outcome["sweep"]["points"]:
        assert row["tokens_per_second"] == row["batch_size"] * 64 / row["step_seconds"]
        assert row["peak_bytes"] > 0
    assert "Finished" in (folder / "sweep.html").read_text("utf-8")
    assert not (tmp_path / "runs" / "bench-2").exists()

    other = groundup(*SWEEP, "--set", "seed=9", "--out", folder)
    assert other.returncode == 2
    assert "another recipe" in other.stderr


def test_a_point_that_fails_is_recorded(tmp_path: Path) -> None:
    def only_so_much_memory() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (64 << 30, 64 << 30))

    one = [*BENCH, "--sweep", "--over", "accumulation=1", "--over", "recompute=none", "--over", "precision=fp32"]
    finished = subprocess.run(
        [*GROUNDUP, *one, "--over", "compile=off", "--over", f"micro_batch={10**9},2", "--out", "swept", "--json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, preexec_fn=only_so_much_memory,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    rows = {row["micro_batch"]: row for row in json.loads(finished.stdout)["sweep"]["points"]}
    assert rows[10**9]["error"] == "out of memory"
    assert rows[2]["tokens_per_second"] > 0
    assert "out of memory" in (tmp_path / "swept" / "sweep.html").read_text("utf-8")


BAD = {
    "an unknown recipe": (["bench", "tinny"], ["tinny", "tiny"]),
    "an unknown field": (["bench", "--set", "train.larning_rate=1"], ["train.larning_rate"]),
    "a family that is not there": (["bench", "--set", "model.family=gpt5"], ["gpt5", "gpt2"]),
    "an optimizer that is not there": (["bench", "--set", "train.optimizer=adam"], ["'adam'", "adamw"]),
    "a device that is not here": (["bench", "tiny", "--set", "train.device=cuda"], ["cuda", "cpu"]),
    "a budget without meaning": (["bench", "--set", "budget=soon"], ["soon", "90s"]),
    "seconds below zero": (["bench", "--seconds", "-1"], ["--seconds"]),
    "a sweep over something unknown": (["bench", "--sweep", "--over", "speed=1"], ["speed", "micro_batch"]),
    "a bad value of a sweep": (["bench", "--sweep", "--over", "precision=fp8"], ["fp8", "bf16-weights"]),
    "axes without a sweep": (["bench", "--over", "compile=off"], ["--sweep"]),
    "a file as folder": (["bench", "--memory", "--out", "file.txt"], ["file.txt", "is a file"]),
    "a folder of other things": (["bench", "--memory", "--out", "thesis"], ["thesis", "not empty"]),
    "a timeline nowhere": (["bench", "--profile", "nowhere/step.json"], ["nowhere"]),
    "a timeline that is a folder": (["bench", "--profile", "thesis"], ["thesis", "is a folder"]),
}


@pytest.mark.skipif(os.environ.get("CUDA_VISIBLE_DEVICES", "") != "", reason="expects a machine without CUDA")
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    monkeypatch.chdir(tmp_path)
    arguments, expected = BAD[name]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    for part in expected:
        assert part in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.txt", "thesis"]
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]
