"""`groundup finetune`."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.cli.main import main
from groundup.model import folder as model_folder
from groundup.model.registry import build, build_any
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer
from groundup.tune.finetune import load_classifier
from tests.cli.support import GROUNDUP, Result, make_text

Cli = Callable[..., Result]
SIDES = {"sea": "ship wave sail captain".split(), "kitchen": "oven bread flour butter".split()}


@pytest.fixture
def groundup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """As the fixture of the other verbs, but in this process: to start one for each case would take longest."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Result:
        code = main([str(argument) for argument in arguments])
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return run


def texts(count: int, seed: int) -> str:
    generator = random.Random(seed)
    labels = [generator.choice(list(SIDES)) for _ in range(count)]
    rows = [
        {
            "review": " ".join(generator.choices([*SIDES[label], "the", "and"], k=6) + SIDES[label][:1]),
            "class": label,
        }
        for label in labels
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny, untrained gpt2 in `model`, and examples in `train.jsonl` and `valid.jsonl`."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "train.jsonl").write_text(texts(200, 1))
    (folder / "valid.jsonl").write_text(texts(100, 2))
    words = make_text(20_000) + " ".join(word for side in SIDES.values() for word in side * 50)
    tokenizer = Tokenizer.train([words], vocabulary_size=330)
    shape = Shape(
        family="gpt2",
        num_layers=2,
        width=32,
        num_heads=2,
        num_kv_heads=2,
        head_width=16,
        feedforward_width=64,
        vocabulary_size=tokenizer.vocabulary_size,
        context=32,
    )
    model_folder.save(folder / "model", build(shape, seed=1), tokenizer, "card", {})
    return folder


def finetune(groundup: Cli, *arguments: str | Path) -> Result:
    return groundup("finetune", *arguments, "--threads", "1")


def figures_of(result: Result) -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
    figures: dict[str, Any] = json.loads(result.stdout)
    return figures


def test_ways_of_training_side_by_side(groundup: Cli, made: Path, tmp_path: Path) -> None:
    options = ["--data", made / "train.jsonl", "--valid", made / "valid.jsonl", "--epochs", "4", "--lr", "0.01"]
    ways = ["--freeze", "all", "--freeze", "first:1", "--freeze", "none", "--from-scratch"]
    shown = finetune(groundup, made / "model", *options, *ways)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert "2 labels, 200 examples to learn from, 100 to measure on" in lines[0]
    assert [line[:12].strip() for line in lines[2:]] == ["all", "first:1", "none", "from scratch"]

    figures = figures_of(finetune(groundup, made / "model", *options, *ways, "--out", "kept", "--json"))
    assert figures["labels"] == ["kitchen", "sea"]
    rows = {row["mode"]: row for row in figures["modes"]}
    assert list(rows) == ["all", "first:1", "none", "from scratch"]
    assert rows["all"]["trained_parameters"] == 2 * 32 + 2
    assert rows["first:1"]["frozen"] == ["embedding", "positions", "blocks.0"]
    assert rows["none"]["trained_parameters"] == rows["from scratch"]["trained_parameters"]
    best = rows[figures["best"]]["scores"]
    assert best["accuracy"] == max(row["scores"]["accuracy"] for row in rows.values()) > 0.95
    assert best["accuracy_low"] < best["accuracy"] <= best["accuracy_high"]
    assert all(len(row["history"]) == 4 for row in rows.values())
    loaded = load_classifier(tmp_path / "kept")
    assert loaded.classify(["the ship and the captain", "bread and butter"]) == ["sea", "kitchen"]
    asked = groundup("classify", tmp_path / "kept", "bread and butter", "--json")
    assert json.loads(asked.stdout) == {"labels": ["kitchen"]}
    other = groundup("classify", made / "model", "bread")
    assert other.returncode == 2 and "holds no classifier" in other.stderr


def test_few_labels_and_a_split_of_its_own(groundup: Cli, made: Path) -> None:
    options = [
        "--data",
        made / "train.jsonl",
        "--labels",
        "10",
        "--epochs",
        "1",
        "--text-field",
        "review",
        "--json",
    ]
    first, again = (figures_of(finetune(groundup, made / "model", *options)) for _ in range(2))
    assert (first["train_examples"], first["valid_examples"]) == (20, 40)
    assert [row["mode"] for row in first["modes"]] == ["none"]
    for figures in (first, again):
        figures["modes"][0].pop("seconds")
    assert first == again


BAD: dict[str, tuple[list[str], list[str]]] = {
    "a mode that is not known": (["--freeze", "al"], ["--freeze al", "'all'"]),
    "too many blocks": (["--freeze", "first:5"], ["first:5", "2 blocks", "first:2"]),
    "a task that is not known": (["--task", "clasify"], ["clasify", "'classify'"]),
    "a field that is not there": (["--label-field", "mark"], ["train.jsonl, line 1", "mark", "review, class"]),
    "a folder that is there": (["--out", "there"], ["there exists already"]),
    "a learning rate that is too high": (["--lr", "1e30", "--json"], ["the loss became", "lower"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name: str, groundup: Cli, made: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    arguments, expected = BAD[name]
    result = finetune(groundup, made / "model", "--data", made / "train.jsonl", *arguments)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    for part in expected:
        assert part in result.stderr


def test_ctrl_c_keeps_what_was_learnt(made: Path, tmp_path: Path) -> None:
    command = [
        *GROUNDUP,
        "finetune",
        str(made / "model"),
        "--data",
        str(made / "train.jsonl"),
        "--epochs",
        "100000",
    ]
    process = subprocess.Popen(
        [*command, "--threads", "1", "--out", "kept"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    status = Path(f"/proc/{process.pid}/status")

    def learns() -> bool:
        """Whether it has a handler for SIGTERM: it has while it learns."""
        caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    while process.poll() is None and not learns():
        time.sleep(0.01)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.decode().splitlines() == ["stopped; the figures are of what was learnt so far"]
    assert b"kept" in output
    assert load_classifier(tmp_path / "kept").labels == ["kitchen", "sea"]


@pytest.mark.shared
def test_real_sentiment(groundup: Cli, made: Path, shared_data: Path) -> None:
    data = shared_data / "classification"
    options = ["--data", data / "sst2_train.jsonl.xz", "--valid", data / "sst2_dev.jsonl.xz", "--labels", "200"]
    figures = figures_of(
        finetune(groundup, made / "model", *options, "--epochs", "1", "--freeze", "all", "--json")
    )
    assert (figures["train_examples"], figures["valid_examples"], figures["labels"]) == (400, 872, ["0", "1"])
    assert figures["majority"] == pytest.approx(444 / 872)


@pytest.mark.shared
@pytest.mark.parametrize(("family", "options"), [("cnn", {}), ("vit", {"patch": 7})])
def test_images_are_classified_frozen_and_whole(
    groundup: Cli, tmp_path: Path, shared_data: Path, family: str, options: dict[str, int]
) -> None:
    shape = Shape(
        family=family, num_layers=2, width=16, num_heads=2, num_kv_heads=2, head_width=8, feedforward_width=32,
        vocabulary_size=256, context=784, options=options,
    )  # fmt: skip
    model_folder.save(tmp_path / "model", build_any(shape, seed=1), None, "# card\n")
    images = shared_data / "multimodal" / "mnist_t10k-images-idx3-ubyte.gz"
    how = ["--data", images, "--labels", "30", "--epochs", "12", "--lr", "5e-3", "--threads", "1"]
    done = groundup("finetune", "model", *how, "--freeze", "first:1", "--freeze", "all", "--out", "kept", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    part, frozen = figures["modes"]
    assert figures["labels"] == list("0123456789") and figures["train_examples"] == 300
    assert part["scores"]["accuracy_low"] > 0.2 and "blocks.0" in part["frozen"]  # chance is 0.1
    assert frozen["trained_parameters"] == 10 * ((32 if family == "cnn" else 16) + 1) < part["trained_parameters"]
    refused = groundup("classify", "kept", "a text")
    assert refused.returncode == 2 and "does not read text" in refused.stderr
