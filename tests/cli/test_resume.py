"""A stopped run continues to the same numbers."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import TINY, Result, build_whole, losses

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
