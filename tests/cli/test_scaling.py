"""`groundup scaling`, end to end through the real command line."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.cli.main import main
from groundup.plan.scaling.laws import TiedLaw
from tests.cli.support import Result

Cli = Callable[..., Result]
RECIPE = """
[tokenizer]
vocabulary_size = 512
sample_bytes = 100000
[model]
context = 32
[data]
holdout_bytes = 8192
[train]
threads = 1
batch_size = 8
"""
LAW = TiedLaw(0.9, 12.0, 0.25, 30.0, 0.25)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """12 runs that follow a law but for a wave of 0.3 %."""
    rows = []
    for size in (1e5, 3e5, 1e6, 3e6):
        for tokens in (5e5, 2e6, 8e6):
            loss = LAW.loss(size, tokens) * (1 + 0.003 * math.sin(len(rows)))
            row = {"parameters": size, "tokens": tokens, "bits_per_byte": loss}
            rows.append(row | {"flops": 8 * size * tokens, "seconds": 1e-11 * size * tokens + 1e-6 * tokens})
    file = tmp_path / "table.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def answer(finished: Result) -> dict[str, Any]:
    """The one JSON object on standard output."""
    assert finished.returncode == 0, finished.stderr
    values: dict[str, Any] = json.loads(finished.stdout)
    return values


def test_a_sweep_makes_runs_and_goes_on_where_it_was(groundup: Cli, text_file: Path, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(RECIPE)
    command = [
        "scaling",
        "sweep",
        text_file,
        "--budget",
        "40ktok",
        "--runs",
        "2",
        "--recipe",
        "small.toml",
        "--json",
    ]
    first = answer(groundup(*command))
    folder = tmp_path / first["folder"]
    assert first["folder"] == "runs/scaling-1"
    rows = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]
    assert [row["run"] for row in rows] == [row["run"] for row in first["sweep"]]
    assert rows[1]["parameters"] >= 8 * rows[0]["parameters"]
    assert sum(row["tokens"] for row in rows) <= 40_000
    for row in rows:
        run = folder / row["run"]
        outcome = json.loads((run / "outcome.json").read_text())
        assert (outcome["bits_per_byte"], outcome["tokens"]) == (row["bits_per_byte"], row["tokens"])
        assert (run / "model" / "model.safetensors").is_file()
        assert row["vocabulary_size"] == rows[0]["vocabulary_size"]
    # One run is lost: the same command, told where, makes it again, with the same numbers, and keeps the other.
    kept, lost = (folder / row["run"] for row in rows)
    (lost / "outcome.json").unlink()
    before = (kept / "outcome.json").stat().st_mtime_ns
    again = answer(groundup(*command))
    assert again["folder"] == first["folder"]
    assert (kept / "outcome.json").stat().st_mtime_ns == before
    assert again["sweep"][1]["bits_per_byte"] == pytest.approx(first["sweep"][1]["bits_per_byte"])
    other = groundup(*command, "--set", "seed=9", "--out", folder)
    assert other.returncode == 2
    assert "another recipe or budget" in other.stderr


def test_a_law_is_fitted_and_predicts(groundup: Cli, table: Path, tmp_path: Path) -> None:
    fitted = answer(groundup("scaling", "fit", table, "--out", "law.json", "--json", "--html", "law.html"))
    assert fitted["form"] == "tied"
    assert fitted["size_exponent_low"] < 0.25 < fitted["size_exponent_high"]
    assert len(fitted["residuals"]) == 12
    assert {row["form"] for row in fitted["forms"]} == {"tied", "chinchilla", "kaplan"}
    assert "Loss by computation" in (tmp_path / "law.html").read_text("utf-8")

    found = answer(groundup("scaling", "predict", "law.json", "--budget", "30Mtok", "--params", "3M", "--json"))
    expected = LAW.loss(3e6, 3e7)
    assert found["loss"] == pytest.approx(expected, rel=0.02)
    assert found["loss_low"] < expected < found["loss_high"]

    by_time = answer(groundup("scaling", "predict", "law.json", "--budget", "5m", "--json"))
    seconds_a_token = 1e-11 * by_time["parameters"] + 1e-6
    assert by_time["tokens"] * seconds_a_token == pytest.approx(300, rel=0.02)
    assert by_time["loss"] == min(row["loss"] for row in by_time["sizes"])

    shown = groundup(
        "scaling", "predict", "law.json", "--budget", "1e15flop", "--unique", "1Mtok", "--explain", "loss"
    )
    assert shown.returncode == 0, shown.stderr
    assert "E + A / N^alpha + B / D^alpha" in shown.stdout


def test_a_published_law_predicts(groundup: Cli) -> None:
    found = answer(groundup("scaling", "predict", "besiroglu", "--budget", "5.76e23flop", "--json"))
    assert found["tokens_per_parameter"] == pytest.approx(18, rel=0.05)
    assert found["loss_low"] < 0.9 * found["loss"]


def test_rows_can_be_chosen(groundup: Cli, shared_data: Path, tmp_path: Path) -> None:
    options = ["--loss-column", "c4_val", "--where", "ds=rpj", "--form", "tied", "--json"]
    fitted = answer(groundup("scaling", "fit", shared_data / "scaling" / "gadre_small.csv", *options))
    assert (fitted["runs"], fitted["law"]) == (32, "law.json")
    assert json.loads((tmp_path / "law.json").read_text())["law"]["unit"] == "nats per token"


BAD = {
    "an unknown law": (["predict", "chinchila", "--budget", "1e18flop"], ["'chinchila'", "besiroglu"]),
    "a law that is not there": (["predict", "nowhere.json", "--budget", "1e18flop"], ["nowhere.json"]),
    "steps": (["predict", "besiroglu", "--budget", "100steps"], ["steps", "1e18flop"]),
    "time without a machine": (["predict", "besiroglu", "--budget", "5m"], ["speed", "1e18flop"]),
    "a size in words": (["predict", "besiroglu", "--budget", "1e18flop", "--params", "big"], ["--params", "7B"]),
    "an unknown form": (["fit", "runs.csv", "--form", "kaplann"], ["kaplann", "kaplan"]),
    "an unknown column": (["fit", "runs.csv", "--loss-column", "los"], ["'los'", "'loss'"]),
    "too few runs": (["fit", "runs.csv"], ["too few", "give 5"]),
    "no such file": (["fit", "nowhere.csv"], ["nowhere.csv"]),
    "a condition without a value": (["fit", "runs.csv", "--where", "ds"], ["column=value"]),
    "a fixed size": (["sweep", "words.txt", "--set", "model.width=64"], ["model.width", "unset"]),
    "standard input": (["sweep", "-"], ["'-'", "file"]),
    "a longest run in tokens": (["sweep", "words.txt", "--longest", "5ktok"], ["--longest", "60s"]),
    "a folder of other things": (["sweep", "words.txt", "--out", "thesis"], ["thesis", "not empty"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs.csv").write_text("parameters,tokens,loss\n1e6,1e7,3\n2e6,1e7,2.9\n")
    (tmp_path / "words.txt").write_text("the river sees the house\n" * 2000)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    monkeypatch.chdir(tmp_path)
    arguments, expected = BAD[name]
    assert main(["scaling", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    for part in expected:
        assert part in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs.csv", "thesis", "words.txt"]
