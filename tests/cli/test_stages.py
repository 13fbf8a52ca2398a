"""`groundup sft`, `reward` and `dpo`, and `build --stages`: from examples to models, through the command line."""

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from groundup.cli.main import main
from groundup.model import folder as model_folder
from groundup.model.registry import build
from groundup.recipe import load
from groundup.run import Run
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.templates import with_template
from tests.cli.support import GROUNDUP, TINY, Result, losses

Groundup = Callable[..., Result]
THREAD = ["--set", "train.threads=1"]
LETTERS = "abcdefgh"


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random base model over bytes, conversations, and pairs of a known rule."""
    folder = tmp_path_factory.mktemp("start")
    shape = Shape(
        family="qwen3", num_layers=2, width=32, num_heads=2, num_kv_heads=1, head_width=16, feedforward_width=64,
        vocabulary_size=257, context=96, tied=True,
    )  # fmt: skip
    tokenizer = Tokenizer.train(["a"], vocabulary_size=257)
    model_folder.save(folder / "base", build(shape, seed=1), tokenizer, "card", {})
    rng = random.Random(0)
    with (folder / "talk.jsonl").open("w") as talk, (folder / "pairs.jsonl").open("w") as pairs:
        for number in range(120):
            letter = rng.choice(LETTERS)
            question = {"role": "user", "content": f"{number} {letter}"}
            answer = {"role": "assistant", "content": letter * 5}
            talk.write(json.dumps({"messages": [question, answer]}) + "\n")
            liked = letter.upper() * rng.randint(2, 6)
            pair = {"prompt": f"{number} {letter}", "chosen": liked, "rejected": letter * rng.randint(2, 6)}
            pairs.write(json.dumps(pair) + "\n")
    return folder


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    """The outcome of a verb."""
    assert main([*map(str, arguments), "--json", *THREAD]) == 0
    outcome: dict[str, Any] = json.loads(capsys.readouterr().out)
    return outcome


@pytest.fixture(scope="module")
def taught(start: Path) -> Path:
    """A run of supervised fine-tuning."""
    arguments = [
        "sft",
        start / "base",
        start / "talk.jsonl",
        "--epochs",
        12,
        "--lr",
        "1e-2",
        "--out",
        start / "sft",
    ]
    options = ["--set", "sft.batch_size=4", "--set", "train.validations=2", *THREAD]
    assert main([*map(str, arguments), *options]) == 0
    return start / "sft"


def test_sft_teaches_to_answer_and_to_end(taught: Path, start: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also for `transformers`, with the template in the folder; the base is as it was."""
    outcome = json.loads((taught / "outcome.json").read_text())
    assert outcome["loss_before"] > 4
    assert outcome["loss"] < 0.5
    assert outcome["targets"] > 0
    tokenizer = AutoTokenizer.from_pretrained(taught / "model")
    model = AutoModelForCausalLM.from_pretrained(taught / "model")
    assert model.generation_config.eos_token_id == sorted(
        tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    )
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "7 c"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    written = model.generate(**asked, max_new_tokens=12, do_sample=False)[0, asked["input_ids"].shape[1] :]
    assert tokenizer.decode(written) == "ccccc<|im_end|>"
    assert model_folder.load(start / "base").tokenizer.chat_template is None


@pytest.mark.parametrize("rows", ["new", "all"])
def test_adapters_alone_are_saved_and_come_back_merged(
    rows: str, taught: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = told(
        capsys, "sft", start / "base", start / "talk.jsonl", "--lora", f"r=4,alpha=8,rows={rows}", "--epochs", 6,
        "--lr", "1e-2", "--set", "sft.batch_size=4", "--out", tmp_path / "run",
    )  # fmt: skip
    folder = tmp_path / "run" / "model"
    assert (folder / "adapter_model.safetensors").is_file()
    assert not (folder / "model.safetensors").exists()
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 8)
    tokens = range(259) if rows == "all" else (257, 258)  # the template's are the last
    assert config["trainable_token_indices"] == {"embed_tokens": [*tokens]}
    if rows == "new":
        assert outcome["trained_parameters"] < outcome["parameters"] / 4
    assert outcome["loss"] < outcome["loss_before"]
    assert not any(name.endswith("query.base.weight") for name in load_file(_newest(tmp_path / "run")))
    merged = model_folder.load(tmp_path / "run")
    assert merged.model.shape.vocabulary_size == 259
    told(capsys, "dpo", tmp_path / "run", start / "pairs.jsonl", "--epochs", 1, "--out", tmp_path / "further")


def _newest(run: Path) -> Path:
    return max((run / "checkpoints").glob("step-*"), key=lambda path: int(path.name[5:])) / "model.safetensors"


def test_a_reward_model_learns_a_known_rule(
    taught: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = told(
        capsys, "reward", taught, start / "pairs.jsonl", "--epochs", 4, "--lr", "3e-3",
        "--set", "reward.holdout=0.3", "--set", "reward.batch_size=8", "--out", tmp_path / "run",
    )  # fmt: skip
    scores = outcome["scores"]
    assert scores["accuracy"] > 0.95
    assert scores["accuracy_low"] < scores["accuracy"] <= scores["accuracy_high"]
    assert outcome["held_out_examples"] + outcome["examples"] == 120
    about = json.loads((tmp_path / "run" / "model" / "reward.json").read_text())
    assert about["accuracy"] == scores["accuracy"]


@pytest.mark.parametrize("loss", ["sigmoid", "ipo", "kto", "simpo"])
def test_preferences_are_learnt_directly(
    loss: str, taught: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = told(
        capsys, "dpo", taught, start / "pairs.jsonl", "--loss", loss, "--epochs", 3, "--lr", "2e-3",
        "--set", "dpo.batch_size=8", "--out", tmp_path / "run",
    )  # fmt: skip
    assert outcome["loss"] < outcome["loss_before"]
    assert outcome["accuracy"] > 0.9
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert "accuracy" in next(row for row in rows if "lr" in row)


def test_a_killed_stage_goes_on_to_the_same_numbers(start: Path, groundup: Groundup, tmp_path: Path) -> None:
    arguments = [
        "sft",
        str(start / "base"),
        str(start / "talk.jsonl"),
        "--budget",
        "60steps",
        "--seed",
        "3",
        *THREAD,
    ]
    arguments += [
        "--set",
        "sft.batch_size=4",
        "--set",
        "train.checkpoint_steps=7",
        "--set",
        "sft.lora_dropout=0.1",
    ]
    arguments += ["--lora", "r=4"]
    assert groundup(*arguments, "--out", "whole").returncode == 0
    process = subprocess.Popen([*GROUNDUP, *arguments, "--out", str(tmp_path / "run")], stdout=subprocess.DEVNULL)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and (not metrics.exists() or metrics.read_bytes().count(b"\n") < 12):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    again = groundup("sft", "--resume", "--out", "run")
    assert again.returncode == 0, again.stderr
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    file = Path("model") / "adapter_model.safetensors"
    one, other = load_file(tmp_path / "run" / file), load_file(tmp_path / "whole" / file)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_two_processes_learn_what_one_does(start: Path, groundup: Groundup, tmp_path: Path) -> None:
    """Though one may have more to learn in its half of a batch than the other."""
    arguments = [
        "sft",
        start / "base",
        start / "talk.jsonl",
        "--budget",
        "4steps",
        "--set",
        "train.precision=fp32",
    ]
    arguments += ["--no-packing", *THREAD]
    assert groundup(*arguments, "--out", "one").returncode == 0
    many = groundup(*arguments, "--nproc", "2", "--set", "parallel.zero=1", "--out", "two")
    assert many.returncode == 0, many.stderr
    found, expected = losses(tmp_path / "two"), losses(tmp_path / "one")
    assert [step for step, _ in found] == [step for step, _ in expected]
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], rel=1e-5)
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-5)


WRONG = {
    "no model": (["sft"], "no model to start from"),
    "no data": (["sft", "base"], "no data"),
    "no such model": (["sft", "nowhere", "talk.jsonl"], "nowhere"),
    "no such data": (["sft", "base", "nowhere.jsonl"], "nowhere.jsonl"),
    "no pairs": (["dpo", "base", "talk.jsonl"], "talk.jsonl, line 1"),
    "unknown loss": (["dpo", "base", "pairs.jsonl", "--loss", "sigmod"], "did you mean 'sigmoid'?"),
    "unknown template": (["sft", "base", "talk.jsonl", "--template", "chatlm"], "did you mean 'chatml'?"),
    "lora and full": (["sft", "base", "talk.jsonl", "--lora", "r=4", "--full"], "--full"),
    "lora and freeze": (["sft", "base", "talk.jsonl", "--lora", "r=4", "--freeze", "first:1"], "--freeze first:1"),
    "lora without number": (["sft", "base", "talk.jsonl", "--lora", "16"], "r=16"),
    "rows of no kind": (["sft", "base", "talk.jsonl", "--lora", "r=4,rows=al"], "'new' or 'all'"),
    "too many frozen": (["sft", "base", "talk.jsonl", "--freeze", "first:9"], "first:2"),
    "money": (["sft", "base", "talk.jsonl", "--budget", "$5"], "not money"),
    "a line that is none": (["sft", "base", "broken.jsonl"], "broken.jsonl, line 2"),
    "resume with more": (["sft", "base", "--resume"], "--resume"),
    "unknown stage": (["build", "--stages", "pretrain,sftt"], "sftt"),
    "a stage twice": (
        ["build", "--stages", "pretrain,sft,sft", "--set", "sft.data=talk.jsonl"],
        "each stage once",
    ),
    "a chain from nowhere": (["build", "nowhere.txt", "--stages", "pretrain,sft"], "nowhere.txt"),
    "a chain without a judge": (["build", "--stages", "pretrain,ppo"], "ppo has nobody to judge"),
    "everything frozen": (["sft", "base", "talk.jsonl", "--freeze", "all"], "nothing to train"),
    "a run of another kind": (["sft", "--resume", "--out", "dpo-run"], "holds a run of dpo"),
    "tensor parallel adapters": (
        ["sft", "base", "talk.jsonl", "--lora", "r=4", "--nproc", "2", "--set", "parallel.tensor=2"],
        "parallel.tensor=1",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_done_is_said_in_one_line(
    case: str, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, expected = WRONG[case]
    Run.create(tmp_path / "dpo-run", load("default", {"stage": "dpo"}))
    (start / "broken.jsonl").write_text('{"prompt": "a", "completion": "b"}\nnot json\n')
    monkeypatch.chdir(start)
    arguments = [str(tmp_path / part) if part == "dpo-run" else part for part in arguments]
    assert main([*arguments, *([] if "--resume" in arguments else ["--out", str(tmp_path / "run")])]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert error[0].startswith("error: ")
    assert expected in error[0]
    assert not (tmp_path / "run" / "recipe.toml").exists()


CHAIN = [*TINY, "--stages", "pretrain,sft,reward,ppo", "--budget", "30steps"]
CHAIN += "--set sft.budget=6steps --set reward.budget=6steps --set ppo.rounds=2 --set ppo.answers=8".split()
CHAIN += "--set ppo.batch_size=8 --set ppo.tokens=4 --set ppo.updates=1 --set train.validations=1".split()


def test_a_chain_of_stages_goes_on_where_it_was_stopped(
    start: Path, text_file: Path, groundup: Groundup, tmp_path: Path
) -> None:
    data = [f"--set={stage}.data={start}/{name}.jsonl" for stage, name in
            (("sft", "talk"), ("reward", "pairs"), ("ppo", "talk"))]  # fmt: skip
    command = [*GROUNDUP, "build", str(text_file), *CHAIN, *data, "--out", str(tmp_path / "chain")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)
    while process.poll() is None and not (tmp_path / "chain" / "reward" / "recipe.toml").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    sft = (tmp_path / "chain" / "sft" / "outcome.json").read_text()
    again = groundup("build", "--resume", "--out", "chain", "--json")
    assert again.returncode == 0, again.stderr
    outcome = json.loads(again.stdout)
    assert list(outcome["stages"]) == ["pretrain", "sft", "reward", "ppo"]
    assert outcome["stages"]["sft"] == json.loads(sft)
    last, whole = (load_file(tmp_path / "chain" / place / "model.safetensors") for place in ("ppo/model", "model"))
    assert all(torch.equal(last[name], whole[name]) for name in last)
    assert groundup("chat", "chain", stdin=b"hello\n").returncode == 0


def test_what_is_frozen_stays_but_new_tokens_are_learnt(
    start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its embeddings frozen a model could not tell the token that ends a turn from that which begins one."""
    told(capsys, "sft", start / "base", start / "talk.jsonl", "--freeze", "first:1", "--out", tmp_path / "run")
    before, after = (
        load_file(folder / "model.safetensors") for folder in (start / "base", tmp_path / "run" / "model")
    )
    frozen = [name for name in before if ".layers.0." in name]
    assert frozen
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not torch.equal(before["model.norm.weight"], after["model.norm.weight"])
    rows = after["model.embed_tokens.weight"][257:]
    assert (rows[0] - rows[1]).abs().max() > 1e-2 * rows.abs().max()


def test_adapters_of_a_tokenizer_that_is_larger_than_its_model(
    start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Special tokens often stand behind those that a model was made for."""
    loaded = model_folder.load(start / "base")
    tokenizer = with_template(loaded.tokenizer, "chatml")
    model_folder.save(tmp_path / "larger", loaded.model, tokenizer, "card", {})
    told(capsys, "sft", tmp_path / "larger", start / "talk.jsonl", "--lora", "r=2", "--out", tmp_path / "run")
    merged = model_folder.load(tmp_path / "run")
    assert merged.model.shape.vocabulary_size == tokenizer.vocabulary_size == 259


def test_a_stage_has_a_report_and_goes_on_from_anywhere(
    taught: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(start)
    told(capsys, "sft", "base", "tal*.jsonl", "--budget", "2steps", "--out", tmp_path / "run")
    (tmp_path / "run" / "outcome.json").unlink()
    monkeypatch.chdir(tmp_path)
    assert main(["sft", "--resume", "--out", "run"]) == 0
    assert main(["report", str(taught)]) == 0
    page = (taught / "report.html").read_text()
    assert "held-out loss at the end" in page
