"""`groundup probe`."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from groundup.cli.main import main
from groundup.model import folder as model_folder
from groundup.model.registry import build
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer
from tests.cli.support import Result, make_text

Cli = Callable[..., Result]


@pytest.fixture
def groundup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """As the fixture of the other verbs, but in this process: to start one for each case would take longest."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Result:
        code = main([str(argument) for argument in arguments])
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny, untrained qwen3 of 32 numbers a token."""
    folder = tmp_path_factory.mktemp("made") / "model"
    tokenizer = Tokenizer.train([make_text(20_000)], vocabulary_size=330)
    shape = Shape(
        family="qwen3",
        num_layers=1,
        width=32,
        num_heads=2,
        num_kv_heads=2,
        head_width=16,
        feedforward_width=64,
        vocabulary_size=tokenizer.vocabulary_size,
        context=32,
    )
    model_folder.save(folder, build(shape, seed=1), tokenizer, "card", {})
    return folder


def test_classify(groundup: Cli, model: Path, tmp_path: Path) -> None:
    rows = [f"{'river house' if number % 2 else 'tree bird'} the {number},{number % 2}\n" for number in range(100)]
    (tmp_path / "data.csv").write_text("text,label\n" + "".join(rows))
    arguments = ["probe", model, "classify", "--data", "data.csv", "--threads", "1"]
    result = groundup(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert (figures["labels"], figures["train_examples"], figures["feature_width"]) == (["0", "1"], 80, 32)
    assert figures["scores"]["accuracy"] > 0.9
    assert figures["scores"]["majority"] == 0.5
    assert f"accuracy  {figures['scores']['accuracy']:.1%}" in groundup(*arguments).stdout


def test_similarity(groundup: Cli, model: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("river house 3\ntree tree 10\nbird sees 2.5\nsmall green 4\n")
    result = groundup("probe", model, "similarity", "--data", "pairs.txt", "--threads", "1", "--json")
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert (figures["name"], figures["pairs"], figures["family"]) == ("pairs", 4, "qwen3")
    assert -1 <= figures["spearman"] <= 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["likeness", "--data", "pairs.txt"], "the task likeness is unknown"),
        (["similarity", "--data", "questions.txt"], "holds analogies"),
        (["similarity", "--data", "nothing.txt"], "nothing.txt: no such file"),
        (["classify", "--data", "pairs.txt"], "labelled texts are read from .jsonl"),
        (["classify"], "--data"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], told: str, groundup: Cli, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "pairs.txt").write_text("river house 3\n")
    (tmp_path / "questions.txt").write_text(": x\na b c d\n")
    result = groundup("probe", model, *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert told in result.stderr


@pytest.mark.shared
def test_people_s_judgements(groundup: Cli, model: Path, shared_data: Path) -> None:
    file = shared_data / "embeddings" / "EN-WS-353-ALL.txt"
    result = groundup("probe", model, "similarity", "--data", file, "--threads", "1")
    assert result.returncode == 0, result.stderr
    assert "over 353 pairs of EN-WS-353-ALL" in result.stdout
