"""`groundup finetune --task translate` on a translator that was trained a little, as a user would."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.support import GROUNDUP, Result

_WORDS = "the a river house tree bird sees finds loves builds small green old quiet".split()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short sentences, and the same in capitals."""
    file = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    sentences = [" ".join(_WORDS[(start + step) % len(_WORDS)] for step in range(5)) for start in range(14)] * 40
    file.write_text("".join(f"{text}\t{text.upper()}\n" for text in sentences))
    return file


@pytest.fixture(scope="module")
def run(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("translator") / "run"
    small = ["model.width=32", "model.num_heads=2", "model.feedforward_width=64", "model.context=40"]
    small += ["tokenizer.vocabulary_size=300", "train.threads=1", "train.precision=fp32"]
    options = [part for setting in small for part in ("--set", setting)]
    command = [*GROUNDUP, "train", "transformer", str(pairs), "--budget", "20steps", *options]
    subprocess.run([*command, "--out", str(folder)], check=True, capture_output=True, timeout=240)
    return folder


def test_a_translator_goes_on_learning_and_is_saved(
    groundup: Callable[..., Result], run: Path, pairs: Path, tmp_path: Path
) -> None:
    ways = ["--freeze", "none", "--freeze", "embeddings", "--epochs", "12", "--lr", "1e-2", "--threads", "1"]
    done = groundup(
        "finetune", run, "--task", "translate", "--data", pairs, *ways, "--out", tmp_path / "tuned", "--json"
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    whole, part = figures["modes"]
    assert whole["history"][-1]["valid_loss"] < 0.5 * whole["history"][0]["valid_loss"]
    assert whole["scores"]["bleu"] > 50 and part["trained_parameters"] < whole["trained_parameters"]
    again = groundup("translate", tmp_path / "tuned", "the a river house tree", "--json")
    assert json.loads(again.stdout) == {"translations": ["THE A RIVER HOUSE TREE"]}


def test_what_cannot_be_is_refused(groundup: Callable[..., Result], run: Path, pairs: Path) -> None:
    frozen = groundup("finetune", run, "--task", "translate", "--data", pairs, "--freeze", "all")
    assert frozen.returncode == 2 and "leaves a translator nothing to learn" in frozen.stderr
    late = groundup(
        "finetune", run, "--task", "translate", "--data", pairs, "--freeze", "none", "--freeze", "first:9"
    )
    assert (
        late.returncode == 2 and "--freeze first:9" in late.stderr and "none" not in late.stderr.split("error:")[0]
    )
    few = groundup("finetune", run, "--task", "translate", "--data", pairs, "--labels", "3")
    assert few.returncode == 2 and "--labels is for --task classify" in few.stderr
    unknown = groundup("finetune", run, "--task", "transalte", "--data", pairs)
    assert unknown.returncode == 2 and "did you mean 'translate'" in unknown.stderr
