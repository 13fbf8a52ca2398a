"""`groundup plan`, end to end through the real command line."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.plan.loss import SMALL_RUNS, effective_tokens
from tests.cli.support import TINY, Result, make_text

Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def _new_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is known of the machine."""
    monkeypatch.setenv("GROUNDUP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def plan(groundup: Cli) -> Callable[..., dict[str, Any]]:
    def run(*arguments: str | Path) -> dict[str, Any]:
        finished = groundup("plan", *arguments, "--json")
        assert finished.returncode == 0, finished.stderr
        answer: dict[str, Any] = json.loads(finished.stdout)
        return answer

    return run


def test_this_machine_without_a_measurement(plan: Callable[..., dict[str, Any]]) -> None:
    answer = plan("--budget", "10m", "--data", "300MB")
    assert answer["train_seconds"] <= 600
    assert answer["bits_per_byte_low"] < answer["bits_per_byte"] < answer["bits_per_byte_high"]
    assert any("calibrate" in note for note in answer["notes"])


def test_planning_never_imports_torch() -> None:
    for arguments in (["--budget", "10m"], ["--budget", "2h", "--hardware", "h100x8"]):
        code = (
            "import sys; from groundup.cli.main import main;"
            f"assert main(['plan', *{arguments}, '--json']) == 0; assert 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_build_teaches_the_next_plan(groundup: Cli, plan: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(make_text(400_000))
    built = groundup("build", str(text), *TINY, "--out", str(tmp_path / "run"), "--json")
    assert built.returncode == 0, built.stderr
    outcome, written = json.loads(built.stdout), json.loads((tmp_path / "run/plan.json").read_text())
    # Of the tokens that the run saw: whether it was as fast as planned says nothing of the law.
    fresh = effective_tokens(outcome["tokens"], written["corpus"]["train_tokens"])
    size, hardness = written["non_embedding_parameters"], written["corpus"]["compressibility"]
    missed = outcome["bits_per_byte"] / SMALL_RUNS.bits_per_byte(size, fresh, hardness)
    asked = ["--recipe", "tiny", "--set", "train.threads=1"]
    before, after = plan(*asked), plan(*asked, "--set", f'data.sources=["{text}"]')
    ratio = after["bits_per_byte"] / before["bits_per_byte"]
    assert ratio == pytest.approx((missed + 1) / 2)
    assert not any("nothing was measured" in note for note in after["notes"])


def test_a_cluster(plan: Callable[..., dict[str, Any]]) -> None:
    answer = plan("--budget", "$500", "--hardware", "h100x8", "--price", "2.5")
    layout = answer["data"] * answer["tensor"] * answer["pipeline"] * answer["context_parallel"]
    assert layout == 8
    assert answer["peak_bytes"] < 80 * 2**30
    assert answer["usd"] == pytest.approx(500, rel=0.02)
    assert answer["usd"] == pytest.approx(8 * 2.5 * answer["train_seconds"] / 3600)
    assert 0.1 < answer["mfu"] < 0.7
    assert answer["batch_size"] == answer["micro_batch"] * answer["accumulation"] * answer["data"]
    costs = [row["usd"] for row in answer["front"]]
    losses = [row["loss"] for row in answer["front"]]
    assert costs == sorted(costs)
    assert losses == sorted(losses, reverse=True)


def test_a_fixed_size_takes_the_tokens_that_the_budget_buys(plan: Callable[..., dict[str, Any]]) -> None:
    answer = plan("--budget", "15Ttok", "--shape", "llama3-8b", "--hardware", "h100x512")
    assert answer["parameters"] == 8_030_261_248
    assert answer["tokens"] == pytest.approx(15e12, rel=1e-3)
    # 6 N D with the embedding's lookup free and the unembedding's product counted, and attention beside.
    assert 0.9 < answer["flops"] / (6 * 8.03e9 * 15e12) < 1.3


def test_many_devices_are_kept_busy(plan: Callable[..., dict[str, Any]]) -> None:
    """A larger batch than the rule's, as long as its tokens are worth it."""
    answer = plan("--budget", "300Btok", "--params", "7B", "--hardware", "h100x512")
    assert answer["batch_size"] > answer["rule_batch_size"]
    assert answer["tokens"] / 2 < answer["worth_tokens"] < answer["tokens"]
    kept = plan(
        "--budget", "300Btok", "--params", "7B", "--hardware", "h100x512",
        "--set", f"train.batch_size={answer['rule_batch_size']}",
    )  # fmt: skip
    assert kept["worth_tokens"] == pytest.approx(kept["tokens"], rel=0.02)
    assert answer["tokens_per_second"] > kept["tokens_per_second"]
    # Worth more a second, or it would not have been chosen.
    assert answer["worth_tokens"] / answer["train_seconds"] > kept["worth_tokens"] / kept["train_seconds"]


def test_a_size_for_this_machine_takes_the_nearest_rung(plan: Callable[..., dict[str, Any]]) -> None:
    answer = plan("--budget", "10m", "--params", "1M")
    assert 0.7e6 < answer["parameters"] < 1.4e6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--budget", "10m", "--hardware", "h10x8"], "unknown hardware"),
        (["--budget", "soon"], "not understood"),
        (["--budget", "$5"], "--price"),
        (["--budget", "10m", "--data", "nowhere.txt"], "neither a file nor a size"),
        (["--budget", "0.01s"], "too little"),
        (["--budget", "1s", "--hardware", "h100x8"], "too little"),
        (["--budget", "2h", "--hardware", "h100x8", "--shape", "llama3-405b"], "does not fit"),
        (["--budget", "10m", "--shape", "llama9-8b"], "llama"),
        (["--budget", "50steps", "--hardware", "a100x64"], "too few"),
        (["--budget", "2h", "--hardware", "h100x8", "--data", "1MB"], "too few"),
        (["--budget", "10m", "--data", "10"], "too little text"),
    ],
)
def test_bad_input_is_one_line(groundup: Cli, arguments: list[str], words: str) -> None:
    finished = groundup("plan", *arguments)
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: ")
    assert finished.stderr.count("\n") == 1
    assert words in finished.stderr
