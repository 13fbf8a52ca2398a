"""`groundup ppo`, `grpo` and `reject`: a run that is stopped while it writes answers goes on to the same end."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from groundup.cli.main import main
from groundup.model import folder as model_folder
from groundup.model.registry import build
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer
from tests.cli.support import Result

Groundup = Callable[..., Result]
# Five rounds of four steps; checkpoints in the middle of rounds.
OPTIONS = "--tokens 8 --rounds 5 --lr 1e-2 --set train.threads=1 --set train.checkpoint_steps=3".split()
OPTIONS += "--set train.validations=2 --set ppo.answers=16 --set ppo.batch_size=8 --set ppo.updates=2".split()
# Stops its own process by a signal, in the middle of judging a round.
REWARD = """
import os, signal

calls = 0

def reward(prompt, completion):
    global calls
    calls += 1
    if calls == int(os.environ.get("STOP_AT", 0)):
        os.kill(os.getpid(), int(os.environ["STOP_BY"]))
    return sum("a" <= c <= "z" for c in completion)
"""


@pytest.fixture
def start(tmp_path: Path) -> list[str | Path]:
    """The policy, the prompts (24 of them held out) and the judge of a run."""
    shape = Shape(
        family="llama", num_layers=2, width=32, num_heads=2, num_kv_heads=2, head_width=16, feedforward_width=64,
        vocabulary_size=257, context=64, tied=False,
    )  # fmt: skip
    tokenizer = Tokenizer.train(["a"], vocabulary_size=257)
    model_folder.save(tmp_path / "start", build(shape, seed=1), tokenizer, "card", {})
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"say {i}"}) + "\n" for i in range(60)))
    (tmp_path / "reward.py").write_text(REWARD)
    return ["start", "prompts.jsonl", "--reward", "reward.py", "--set", "ppo.holdout=0.4"]


def rows(file: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found]


def test_a_run_stopped_while_it_writes_answers_ends_as_if_it_had_not_been(
    start: list[str | Path], groundup: Groundup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = groundup("ppo", *start, *OPTIONS, "--out", "whole", "--json")
    assert whole.returncode == 0, whole.stderr
    assert json.loads(whole.stdout)["rounds"] == 5

    # 24 held-out answers, two rounds of 16, and five answers of the third.
    monkeypatch.setenv("STOP_AT", str(24 + 2 * 16 + 5))
    monkeypatch.setenv("STOP_BY", str(int(signal.SIGKILL)))
    killed = groundup("ppo", *start, *OPTIONS, "--out", "run")
    assert killed.returncode == -signal.SIGKILL
    assert len(rows(tmp_path / "run" / "rounds.jsonl")) == 2
    # Ctrl-C, after the third round has been written again.
    monkeypatch.setenv("STOP_AT", str(16 + 5))
    monkeypatch.setenv("STOP_BY", str(int(signal.SIGINT)))
    stopped = groundup("ppo", "--resume", "--out", "run")
    assert stopped.returncode == 128 + signal.SIGINT, stopped.stderr
    assert "--resume" in stopped.stdout
    monkeypatch.delenv("STOP_AT")
    resumed = groundup("ppo", "--resume", "--out", "run", "--json")
    assert resumed.returncode == 0, resumed.stderr

    for name in ("rounds.jsonl", "heldout.jsonl", "samples.jsonl"):
        assert rows(tmp_path / "run" / name) == rows(tmp_path / "whole" / name)
    weights = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("run", "whole")]
    assert weights[0] == weights[1]
    assert weights[0] != (tmp_path / "start" / "model.safetensors").read_bytes()


def test_the_verbs_say_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for verb in ("ppo", "grpo", "reject"):
        assert main([verb, "start", "prompts.jsonl"]) == 2
        nobody = f"error: {verb} has nobody to judge; give --reward MODEL or --reward FILE.py"
        assert capsys.readouterr().err.splitlines() == [nobody]
    assert main(["reject", "start", "prompts.jsonl", "--reward", "demo:pleasant", "--sample-only"]) == 2
    assert "--out FILE.jsonl" in capsys.readouterr().err
    judged = [
        "reject",
        "start",
        "prompts.jsonl",
        "--reward",
        "demo:pleasant",
        "--sample-only",
        "--out",
        "best.jsonl",
    ]
    assert main([*judged, "--nproc", "2"]) == 2
    assert "leave --nproc out" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_two_processes_share_the_answering_and_learn_as_one(
    start: list[str | Path], groundup: Groundup, tmp_path: Path
) -> None:
    """Though weights are divided, so that sums come out otherwise in the last digit."""
    options = "--tokens 8 --rounds 2 --lr 1e-3 --set train.threads=1 --set train.validations=1".split()
    options += "--set ppo.answers=16 --set ppo.batch_size=8 --set ppo.updates=1".split()
    one = groundup("ppo", *start, *options, "--out", "one")
    assert one.returncode == 0, one.stderr
    two = groundup("ppo", *start, *options, "--nproc", "2", "--set", "parallel.zero=3", "--out", "two")
    assert two.returncode == 0, two.stderr
    found, expected = (rows(tmp_path / name / "rounds.jsonl") for name in ("two", "one"))
    assert [row["reward"] for row in found] == [row["reward"] for row in expected]
    assert found[1]["kl"] == pytest.approx(expected[1]["kl"], rel=1e-3)
    assert found[1]["kl"] > 0
    # The critic begins with the same expectation in the model that is divided.
    assert found[1]["explained_variance"] == pytest.approx(expected[1]["explained_variance"], rel=1e-2, abs=1e-2)
    saved = [model_folder.load_weights(tmp_path / name) for name in ("one", "two")]
    for one_weight, other in zip(saved[0].parameters(), saved[1].parameters(), strict=True):
        assert torch.allclose(one_weight, other, rtol=1e-3, atol=1e-4)
