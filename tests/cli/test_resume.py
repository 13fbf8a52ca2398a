"""A stopped run continues to the same numbers."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.train.checkpoints import newest_intact
from tests.cli.support import GROUNDUP, TINY, Result, build_whole, losses

OPTIONS = [*TINY, "--budget", "300steps", "--set", "train.checkpoint_steps=40"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> list[tuple[int, float]]:
    """The losses of the run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    build_whole(folder, str(text_file), *OPTIONS)
    return losses(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_after_a_signal(
    number: signal.Signals,
    text_file: Path,
    uninterrupted: list[tuple[int, float]],
    build_and_stop: Callable[..., tuple[int, str]],
    build: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    code, output = build_and_stop(tmp_path / "run", number, 130, text_file, *OPTIONS)
    if number == signal.SIGKILL:
        assert code == -number
    else:
        assert code == 128 + number
        assert "--resume" in output
    assert not (tmp_path / "run" / "outcome.json").exists()
    build("--resume", "--out", tmp_path / "run")
    assert losses(tmp_path / "run") == uninterrupted


def test_after_a_kill_while_a_checkpoint_is_written(
    text_file: Path,
    uninterrupted: list[tuple[int, float]],
    build: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    """The one before is whole; what was written of the other is cleared."""
    checkpoints = tmp_path / "run" / "checkpoints"
    often = ["--set", "train.checkpoint_steps=3"]
    command = [*GROUNDUP, "build", str(text_file), *OPTIONS, *often, "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _kill_while(
        process, lambda: list(checkpoints.glob(".step-*.tmp")) and len(list(checkpoints.glob("step-*"))) > 1
    )
    torn = list(checkpoints.glob(".step-*.tmp"))
    assert len(torn) == 1
    warnings: list[str] = []
    newest = newest_intact(checkpoints, warnings.append)
    assert newest is not None
    assert warnings == []
    assert _step(newest) == int(torn[0].name.split(".")[1].removeprefix("step-")) - 3
    build("--resume", "--out", tmp_path / "run")
    assert losses(tmp_path / "run") == uninterrupted
    assert list(checkpoints.glob(".*")) == []


def _kill_while(process: subprocess.Popen[bytes], is_so: Callable[[], object]) -> None:
    """Kill a process at a moment in which `is_so` holds: it is halted to look again."""
    while process.poll() is None:
        if is_so():
            process.send_signal(signal.SIGSTOP)
            if is_so():
                break
            process.send_signal(signal.SIGCONT)
        time.sleep(0.0005)
    assert process.poll() is None
    process.kill()
    process.wait(timeout=60)


def test_after_a_kill_before_the_end_was_written(
    text_file: Path, build: Callable[..., dict[str, Any]], groundup: Callable[..., Result], tmp_path: Path
) -> None:
    """The last validation and its samples are there once, the same ones."""
    run = tmp_path / "run"
    build(text_file, *TINY, "--budget", "20steps", "--out", run)
    rows = {name: (run / name).read_text("utf-8").splitlines() for name in ("metrics.jsonl", "samples.jsonl")}
    bits = json.loads((run / "outcome.json").read_text())["bits_per_byte"]
    (run / "outcome.json").unlink()
    shutil.rmtree(run / "model")
    resumed = build("--resume", "--out", run)
    assert resumed["bits_per_byte"] == bits
    assert (run / "samples.jsonl").read_text("utf-8").splitlines() == rows["samples.jsonl"]
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    expected = [json.loads(line) for line in rows["metrics.jsonl"]]
    assert [row["step"] for row in expected if "val_loss" in row][-1] == 20
    for row in (*found, *expected):
        del row["seconds"]
    assert found == expected


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    text_file: Path,
    uninterrupted: list[tuple[int, float]],
    build_and_stop: Callable[..., tuple[int, str]],
    groundup: Callable[..., Result],
    tmp_path: Path,
) -> None:
    build_and_stop(tmp_path / "run", signal.SIGKILL, 140, text_file, *OPTIONS)
    newest, before = sorted((tmp_path / "run" / "checkpoints").glob("step-*"), key=_step, reverse=True)
    weights = newest / "model.safetensors"
    torn = bytearray(weights.read_bytes())
    torn[len(torn) // 2] ^= 1
    weights.write_bytes(torn)
    resumed = groundup("build", "--resume", "--out", tmp_path / "run")
    assert resumed.returncode == 0, resumed.stderr
    assert f"{newest.name} is damaged" in resumed.stdout
    assert f"from {before.name}" in resumed.stdout
    assert losses(tmp_path / "run") == uninterrupted


def test_resume_finds_the_newest_run_and_survives_an_emptied_cache(
    text_file: Path,
    uninterrupted: list[tuple[int, float]],
    build_and_stop: Callable[..., tuple[int, str]],
    groundup: Callable[..., Result],
    tmp_path: Path,
) -> None:
    run = tmp_path / "runs" / "tiny-1"
    build_and_stop(run, signal.SIGINT, 60, text_file, *OPTIONS)
    shutil.rmtree((run / "shards").resolve())
    shutil.rmtree((run / "tokenizer").resolve())
    resumed = groundup("build", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert losses(run) == uninterrupted
    again = groundup("build", "--resume", "--out", run)
    assert again.returncode == 0
    assert "finished" in again.stdout


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))
