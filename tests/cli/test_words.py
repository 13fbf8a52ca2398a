"""`groundup words`, `neighbours` and `analogy`, through processes."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors

from groundup.words import WordVectors
from tests.cli.support import GROUNDUP, Result

Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def two_worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences about the sea and about the kitchen, which share only small words."""
    generator = random.Random(0)
    worlds = ["ship wave sail captain harbour storm".split(), "oven bread flour butter spoon sugar".split()]
    lines = []
    for _ in range(3000):
        world = generator.choice(worlds)
        lines.append(" ".join(generator.choice([*world, "the", "and"]) for _ in range(8)).capitalize() + ".\n\n")
    path = tmp_path_factory.mktemp("words") / "worlds.txt"
    path.write_text("".join(lines))
    return path


@pytest.mark.parametrize(
    "options",
    [
        ["--model", "skipgram", "--epochs", "10", "--lr", "0.05"],
        ["--model", "cbow", "--epochs", "20"],
        ["--model", "skipgram", "--hs", "--epochs", "10", "--lr", "0.05"],
        ["--model", "glove", "--window", "5", "--x-max", "10"],
    ],
    ids=" ".join,
)
def test_words_of_one_world_are_neighbours(
    groundup: Cli, two_worlds: Path, tmp_path: Path, options: list[str]
) -> None:
    options = [*options, "--dim", "20", "--sample", "0"] if "glove" not in options else [*options, "--dim", "20"]
    trained = groundup(
        "words",
        "train",
        two_worlds,
        *options,
        "--split",
        "blank-lines",
        "--threads",
        "1",
        "--out",
        "made",
        "--json",
    )
    assert trained.returncode == 0, trained.stderr
    figures = json.loads(trained.stdout)
    assert figures["finished"]
    assert figures["vocabulary_size"] == 14
    assert figures["share_done"] == 1
    found = groundup("neighbours", "made", "Ship", "storm", "--count", "4", "--json")
    neighbours = {row["word"] for row in json.loads(found.stdout)["neighbours"]}
    assert neighbours == {"wave", "sail", "captain", "harbour"}
    theirs = KeyedVectors.load_word2vec_format(str(tmp_path / "made" / "vectors.bin"), binary=True)
    assert theirs.similarity("oven", "bread") > theirs.similarity("oven", "ship") + 0.2
    assert (tmp_path / "made" / "vocabulary.txt").read_text().count("\n") == 14
    assert not (tmp_path / "made" / "state.safetensors").exists()


@pytest.fixture(scope="module")
def trained(two_worlds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "folder"
    command = [
        *GROUNDUP,
        "words",
        "train",
        str(two_worlds),
        "--split",
        "blank-lines",
        "--dim",
        "20",
        "--threads",
        "1",
    ]
    subprocess.run([*command, "--out", str(folder)], check=True, capture_output=True, timeout=60)
    return folder


def test_evaluate_export_and_analogy(groundup: Cli, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("ship wave 9\nship bread 1\noven flour 8\noven sail 0.5\nship zebra 3\n")
    (tmp_path / "questions.txt").write_text(": worlds\nship wave oven bread\nship wave oven zebra\n")
    done = groundup("words", "evaluate", trained, "pairs.txt", "questions.txt", "--json")
    assert done.returncode == 0, done.stderr
    similarity, analogies = json.loads(done.stdout)["tasks"]
    assert (similarity["pairs"], similarity["unknown"]) == (4, 1)
    assert similarity["spearman"] > 0.5
    assert (analogies["questions"], analogies["unknown"]) == (1, 1)
    shown = groundup("words", "evaluate", trained, "pairs.txt", "questions.txt").stdout
    assert "Spearman" in shown
    assert "worlds" in shown

    assert groundup("words", "export", trained, "v.txt").returncode == 0
    ours, exported = WordVectors.load(trained), WordVectors.load(tmp_path / "v.txt")
    assert exported.words == ours.words
    assert np.array_equal(exported.vectors, ours.vectors)
    answers = groundup("analogy", tmp_path / "v.txt", "ship", "wave", "oven", "--method", "mul", "--json")
    assert [row["word"] for row in json.loads(answers.stdout)["answers"]] == [
        word for word, _ in ours.analogy("ship", "wave", "oven", method="mul")
    ]


def catches(process: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal: for SIGTERM only while it learns."""
    status = Path(f"/proc/{process}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("model", ["cbow", "glove"])
def test_what_ctrl_c_stops_is_saved_and_goes_on_to_the_same_vectors(
    groundup: Cli, two_worlds: Path, tmp_path: Path, model: str
) -> None:
    size = ["--epochs", "150", "--sample", "0"] if model == "cbow" else ["--epochs", "30000"]
    options = ["--model", model, *size, "--dim", "32", "--split", "blank-lines", "--threads", "1"]
    command = [*GROUNDUP, "words", "train", str(two_worlds), *options, "--out", "stopped", "--json"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not catches(process.pid, signal.SIGTERM):
        time.sleep(0.01)
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    figures = json.loads(output)
    assert not figures["finished"]
    assert figures["resumable"]
    assert 0 < figures["share_done"] < 1
    assert "continue: groundup words train --resume --out stopped" in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stopped"]
    assert WordVectors.load(tmp_path / "stopped").vectors.shape == (14, 32)

    again = groundup("words", "train", "--resume", "--out", "stopped", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["finished"]
    assert groundup("words", "train", two_worlds, *options, "--out", "whole").returncode == 0
    whole, continued = WordVectors.load(tmp_path / "whole"), WordVectors.load(tmp_path / "stopped")
    assert np.array_equal(whole.vectors, continued.vectors)
    finished = groundup("words", "train", "--resume", "--out", "stopped")
    assert finished.returncode == 2
    assert "is finished: there is nothing to continue" in finished.stderr


def test_standard_input_is_a_source(groundup: Cli, two_worlds: Path) -> None:
    done = groundup("words", "train", "-", "--epochs", "1", "--json", stdin=two_worlds.read_bytes())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tokens"] == 24_000


def test_errors_are_one_line(groundup: Cli, trained: Path, two_worlds: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "few.txt").write_text("only three words\n")
    (tmp_path / "broken.bin").write_bytes(b"3 20\nabc")
    train = ["words", "train"]
    for arguments, message in (
        (train, "no text to learn from"),
        ([*train, two_worlds, "--out", "taken"], "taken exists already"),
        ([*train, two_worlds, "--model", "glove", "--negative", "5"], "negative = 5 is not for --model glove"),
        ([*train, two_worlds, "--hs", "--negative", "5"], "leave out --negative or --hs"),
        ([*train, two_worlds, "--lr", "0"], "lr = 0.0"),
        ([*train, two_worlds, "--pattern", "("], "is not words, whitespace or a regular expression"),
        ([*train, "few.txt"], "give more text or a smaller --min-count"),
        ([*train, "wolds.txt"], "no such file, folder or corpus"),
        ([*train, "--resume", "--out", "taken"], "taken holds no words.json"),
        (["neighbours", trained, "shipp"], "'shipp' has no vector (of 14 words); did you mean 'ship'"),
        (["analogy", trained, "ship", "wave", "qqqq"], "no known word is spelt like it"),
        (["neighbours", "taken", "ship"], "taken holds no vectors.bin"),
        (["neighbours", "broken.bin", "ship"], "broken.bin is damaged"),
        (["words", "evaluate", trained, "few.txt"], "'only three words' is not two words and a score"),
    ):
        failed = groundup(*arguments)
        assert failed.returncode == 2, arguments
        assert message in failed.stderr
        assert failed.stderr.count("\n") == 1
    assert not (tmp_path / "words").exists()
