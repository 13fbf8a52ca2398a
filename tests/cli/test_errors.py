"""Bad input: one line that says what is wrong and what to do, exit code 2, nothing written."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.support import GROUNDUP, TINY, Result

Cli = Callable[..., Result]

BAD = {
    "a missing file": (["build", "no-such-file.txt"], ["no-such-file.txt"]),
    "an empty file": (["build", "empty.txt"], ["empty.txt", "no text"]),
    "a corpus that is too small": (["build", "small.txt"], ["too few", "data.holdout_bytes"]),
    "a binary file": (["build", "binary.bin"], ["binary.bin", "binary"]),
    "a wrong field": (["build", "lines.jsonl"], ["'text'", "body", "data.field"]),
    "a budget without meaning": (["build", "text.txt", "--budget", "soon"], ["soon", "90s"]),
    "a budget that is too small": (["build", "text.txt", "--budget", "2s"], ["2 s", "cannot be met"]),
    "an unknown recipe": (["build", "--recipe", "tinny"], ["tinny", "tiny"]),
    "a missing recipe file": (["build", "--recipe", "mine.toml"], ["mine.toml"]),
    "an unknown field": (["build", "--set", "train.larning_rate=1"], ["train.larning_rate"]),
    "a misspelt field": (["build", "--set", "train.batchsize=1"], ["train.batch_size"]),
    "a value out of range": (["build", "--set", "train.lr=-1"], ["train.lr", "greater than 0"]),
    "a value of the wrong type": (["build", "--set", "model.width=wide"], ["model.width", "integer"]),
    "an override without a value": (["build", "--set", "train.lr"], ["field=value"]),
    "heads that do not divide": (
        ["build", "text.txt", *TINY, "--set", "model.num_heads=3", "--set", "model.num_kv_heads=2"],
        ["num_heads=3", "num_kv_heads=2"],
    ),
    "a device that is not there": (["build", "text.txt", "--set", "train.device=cuda"], ["cuda", "cpu"]),
    "an option that is not there": (["build", "--frobnicate"], ["--frobnicate"]),
    "nothing to resume": (["build", "--resume"], ["no unfinished run"]),
    "resume with other settings": (["build", "text.txt", "--resume"], ["--out"]),
    "a folder that is no run": (["generate", "."], ["neither a run nor a model"]),
    "a temperature below zero": (["generate", ".", "--temperature", "-1"], ["--temperature"]),
    "no run to report on": (["report", "nowhere"], ["nowhere"]),
    "no run to evaluate": (["eval", "nowhere", "--json"], ["nowhere"]),
    "an unknown source for the doctor": (["doctor", "nowhere.txt"], ["nowhere.txt"]),
}


@pytest.mark.skipif(os.environ.get("CUDA_VISIBLE_DEVICES", "") != "", reason="expects a machine without CUDA")
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name: str, groundup: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "small.txt").write_text("A few words are not enough.\n" * 100)
    (tmp_path / "binary.bin").write_bytes(bytes(range(256)) * 100)
    (tmp_path / "lines.jsonl").write_text('{"body": "text"}\n' * 100)
    (tmp_path / "text.txt").write_text("Some words that are enough to go on with.\n" * 5000)
    before = sorted(path.name for path in tmp_path.iterdir())
    arguments, expected = BAD[name]
    result = groundup(*arguments)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    for part in expected:
        assert part in result.stderr
    if "--json" in arguments:
        assert set(json.loads(result.stdout)) == {"error"}
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_folder_that_holds_something_is_left_alone(groundup: Cli, text_file: Path, tmp_path: Path) -> None:
    kept = tmp_path / "thesis"
    kept.mkdir()
    (kept / "chapter.txt").write_text("years of work")
    result = groundup("build", text_file, "--out", kept)
    assert result.returncode == 2
    assert "not empty" in result.stderr
    (kept / "recipe.toml").write_text("")
    result = groundup("build", text_file, "--out", kept)
    assert result.returncode == 2
    assert "--resume" in result.stderr
    assert (kept / "chapter.txt").read_text() == "years of work"


def test_a_full_disk_keeps_the_last_good_checkpoint(text_file: Path, groundup: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = [*TINY, "--budget", "400steps", "--set", "train.checkpoint_steps=50"]

    def only_small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    started = groundup("build", text_file, *TINY, "--budget", "5steps", "--out", tmp_path / "warm-up")
    assert started.returncode == 0, started.stderr
    command = [*GROUNDUP, "build", str(text_file), *options, "--out", str(run)]
    stopped = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, preexec_fn=only_small_files, timeout=240
    )
    assert stopped.returncode == 2
    assert stopped.stderr.count("\n") == 1, stopped.stderr
    assert "could not save" in stopped.stderr
    assert "--resume" in stopped.stderr
    assert groundup("build", "--resume", "--out", run).returncode == 0


def test_help_does_not_load_torch() -> None:
    code = (
        "import sys; from groundup.cli.main import main; code = main(['--help']); "
        "print(code, [name for name in ('torch', 'numpy', 'pydantic', 'rich.console') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "0 []"
