"""`groundup build`, end to end through the real command line."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.support import TINY, Result, build_whole, losses, make_text

Build = Callable[..., dict[str, Any]]
Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """A finished run of 200 steps."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    build_whole(folder, str(text_file), *TINY, "--budget", "200steps")
    return folder


def test_a_run_holds_everything(finished_run: Path) -> None:
    names = {path.name for path in finished_run.iterdir()}
    assert {"recipe.toml", "plan.json", "metrics.jsonl", "checkpoints", "model", "report.html", "log.txt"} <= names
    model = {path.name for path in (finished_run / "model").iterdir()}
    assert model == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json",
        "README.md",
    }  # fmt: skip
    rows = [json.loads(line) for line in (finished_run / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, 201))
    for row in steps:
        assert {"tokens", "seconds", "lr", "grad_norm", "tokens_per_second"} <= row.keys()
    validations = [row for row in rows if "val_loss" in row]
    assert len(validations) == 8
    assert validations[-1]["val_bits_per_byte"] < validations[0]["val_bits_per_byte"]


def test_the_model_learns_what_there_is_to_learn(finished_run: Path) -> None:
    outcome = json.loads((finished_run / "outcome.json").read_text())
    # Each of the 20 words is drawn evenly: log2(20) bits for a word and its space, 5.2 bytes on average.
    assert outcome["bits_per_byte"] < 1.3 * math.log2(20) / 5.2
    assert outcome["bits_per_byte"] == pytest.approx(
        outcome["loss"] / math.log(2) / outcome["bytes_per_token"], rel=1e-6
    )


def test_transformers_loads_the_model_folder(finished_run: Path) -> None:
    transformers = pytest.importorskip("transformers")
    import groundup

    loaded = groundup.load(finished_run)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(finished_run / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(finished_run / "model")
    text = "The old river sees a quiet house.\n\nThen 12 birds!"
    ids = tokenizer(text).input_ids
    assert ids == loaded.tokenizer.encode_ordinary(text)
    assert tokenizer.decode(ids) == text
    with torch.no_grad():
        ours, other = loaded.model(torch.tensor([ids])), theirs(torch.tensor([ids])).logits
    assert (ours - other).abs().max() < 1e-4


def test_generate_continues_a_prompt_and_lines_of_standard_input(finished_run: Path, groundup: Cli) -> None:
    options = ["--max-tokens", "12", "--seed", "3"]
    once = groundup("generate", finished_run, "--prompt", "The old", *options)
    assert once.returncode == 0
    assert once.stdout.startswith("The old")
    assert len(once.stdout) > len("The old\n")
    again = groundup("generate", finished_run, *options, stdin=b"The old\nThe bird\n")
    assert again.stdout.startswith(once.stdout)
    assert "The bird" in again.stdout


def test_eval_agrees_with_the_run(finished_run: Path, groundup: Cli, tmp_path: Path) -> None:
    outcome = json.loads((finished_run / "outcome.json").read_text())
    held_out = json.loads(groundup("eval", finished_run, "--json").stdout)
    assert held_out["bits_per_byte"] == pytest.approx(outcome["bits_per_byte"], rel=0.01)  # bf16 against fp32
    other = tmp_path / "other.txt"
    other.write_text(make_text(20_000, seed=9))
    text = json.loads(groundup("eval", finished_run, "--text", other, "--json").stdout)
    assert text["bits_per_byte"] == pytest.approx(outcome["bits_per_byte"], rel=0.1)
    assert text["bytes"] == pytest.approx(20_000, rel=0.01)
    assert text["tokens_per_byte"] == pytest.approx(text["tokens"] / text["bytes"])


def test_report_and_doctor_know_the_run(finished_run: Path, groundup: Cli) -> None:
    assert groundup("report", finished_run).stdout.strip() == str(finished_run / "report.html")
    healthy = groundup("doctor", finished_run)
    assert healthy.returncode == 0, healthy.stdout
    assert "intact" in healthy.stdout


def test_the_resolved_recipe_builds_the_same_model(finished_run: Path, build: Build, tmp_path: Path) -> None:
    build("--recipe", finished_run / "recipe.toml", "--out", tmp_path / "again")
    assert losses(tmp_path / "again") == losses(finished_run)


def test_the_same_recipe_and_seed_give_the_same_losses(text_file: Path, build: Build, tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        build(text_file, *TINY, "--budget", "30steps", "--seed", str(seed), "--out", tmp_path / name)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert losses(tmp_path / "a") != losses(tmp_path / "c")


def test_shards_and_tokenizer_are_reused(text_file: Path, build: Build, groundup: Cli, tmp_path: Path) -> None:
    build(text_file, *TINY, "--budget", "10steps", "--seed", "41", "--out", tmp_path / "first")
    second = groundup(
        "build", text_file, *TINY, "--budget", "12steps", "--seed", "41", "--out", tmp_path / "second"
    )
    assert second.returncode == 0
    assert "encoding" not in second.stdout
    assert "training the tokenizer" not in second.stdout
    assert (tmp_path / "first" / "shards").resolve() == (tmp_path / "second" / "shards").resolve()


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_other_families_train_and_load(family: str, text_file: Path, build: Build, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    settings = ["--set", f"model.family={family}"]
    if family == "gpt2":
        settings += ["--set", "model.num_kv_heads=2"]
    build(text_file, *TINY, *settings, "--budget", "10steps", "--out", tmp_path / "run")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert model.config.model_type == family


def test_token_and_flop_budgets_are_kept(text_file: Path, build: Build, tmp_path: Path) -> None:
    tokens = build(text_file, *TINY, "--budget", "20ktok", "--out", tmp_path / "tokens")
    assert 0.9 * 20_000 <= tokens["tokens"] <= 20_000
    flops = build(text_file, *TINY, "--budget", "1e10flop", "--out", tmp_path / "flops")
    assert 0.9e10 <= flops["flops"] <= 1e10


def test_a_time_budget_ends_annealed(text_file: Path, build: Build, tmp_path: Path) -> None:
    outcome = build(text_file, *TINY, "--budget", "22s", "--out", tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rates = [row["lr"] for row in rows if "lr" in row]
    assert rates[-1] < 0.05 * max(rates)
    assert outcome["train_seconds"] <= 22


def test_standard_input_and_chinese(build: Build, tmp_path: Path) -> None:
    text = "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。寒来暑往，秋收冬藏。\n" * 3000
    build("-", *TINY, "--budget", "40steps", "--out", tmp_path / "run", stdin=text.encode())
    import groundup

    loaded = groundup.load(tmp_path / "run")
    assert len(loaded.tokenizer.encode_ordinary("天地玄黄")) <= 4
    sample = json.loads((tmp_path / "run" / "samples.jsonl").read_text("utf-8").splitlines()[-1])
    assert any("\u4e00" <= character <= "\u9fff" for character in sample["prompt"] + sample["text"])


def test_invalid_utf8_is_kept(build: Build, tmp_path: Path) -> None:
    latin = tmp_path / "latin.txt"
    latin.write_bytes(make_text(60_000).encode() + b"caf\xe9 \xff\xfe " * 2000)
    build(latin, *TINY, "--budget", "5steps", "--out", tmp_path / "run")
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert plan["corpus"]["bytes"] == latin.stat().st_size


def test_validation_text_of_ones_own(text_file: Path, build: Build, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text(make_text(15_000, seed=5))
    build(text_file, *TINY, "--budget", "5steps", "--set", f"data.validation={own}", "--out", tmp_path / "run")
    corpus = json.loads((tmp_path / "run" / "plan.json").read_text())["corpus"]
    assert corpus["held_out_bytes"] == own.stat().st_size
    assert corpus["train_bytes"] == text_file.stat().st_size


def test_a_compiler_that_is_not_there_is_missed_at_once(
    groundup: Cli, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked for is not left out in silence, and no time is spent before."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    result = groundup("build", str(text_file), *TINY, "--set", "train.compile=on", "--out", str(tmp_path / "run"))
    assert result.returncode == 2
    assert "train.compile=on needs a C++ compiler" in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()
