"""Stages on rows in this process: what is read stays the same to the end, and what cannot be right is refused."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from groundup.clock import Clock
from groundup.data.conversations import Judged, Preference, read_preferences
from groundup.errors import UserError
from groundup.model import folder as model_folder
from groundup.model.registry import build
from groundup.parallel.processes import Processes
from groundup.pipeline.display import Display
from groundup.pipeline.held_out_hooks import HeldOutHooks
from groundup.pipeline.tuning import dpo
from groundup.pipeline.tuning.examples import encode_judged, encode_pair
from groundup.pipeline.tuning.job import TuneJob
from groundup.pipeline.tuning.run import prepare, resume_tuning, tune
from groundup.recipe import Recipe, load
from groundup.run import Run, read_rows
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.templates import with_template
from groundup.train.trainer import StepReport


class Killed(Exception):
    """As `kill -9` would, it leaves what is on the disk."""


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A folder with a random chat model over bytes, and pairs."""
    tokenizer = with_template(Tokenizer.train(["a"], vocabulary_size=257), "chatml")
    shape = Shape(
        family="qwen3", num_layers=1, width=16, num_heads=2, num_kv_heads=1, head_width=8, feedforward_width=32,
        vocabulary_size=tokenizer.vocabulary_size, context=64, tied=True,
    )  # fmt: skip
    model_folder.save(tmp_path / "model", build(shape, seed=1), tokenizer, "card", {})
    _write_pairs(tmp_path, 40)
    return tmp_path


def _write_pairs(folder: Path, count: int) -> None:
    with (folder / "pairs.jsonl").open("w") as file:
        for number in range(count):
            pair = {"prompt": f"{number}?", "chosen": "A" * (1 + number % 5), "rejected": "b"}
            file.write(json.dumps(pair) + "\n")


def _recipe(start: Path, stage: str, **fields: Any) -> Recipe:
    given = {"model": str(start / "model"), "data": [str(start / "pairs.jsonl")], "batch_size": 4, "lr": 1e-3}
    given |= {"budget": "12steps"} | fields
    overrides = {f"{stage}.{field}": value for field, value in given.items()}
    trained = {"train.threads": 1, "train.validations": 1, "train.checkpoint_steps": 4}
    return load("default", overrides | trained | {"stage": stage})


def _display() -> Display:
    return Display(Console(file=io.StringIO(), width=200))


def _kill_at(step: int, monkeypatch: pytest.MonkeyPatch, recipe: Recipe, folder: Path) -> Run:
    def on_step(hooks: HeldOutHooks, report: StepReport) -> None:
        if report.state.step == step:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(HeldOutHooks, "on_step", on_step)
        with pytest.raises(Killed):
            tune(recipe, folder, _display())
    return Run.open(folder)


@pytest.mark.parametrize(("stage", "longest"), [("reward", 64), ("dpo", 65)])
def test_pairs_that_just_fit_are_learnt_from(start: Path, stage: str, longest: int) -> None:
    """A reward model reads all tokens of an answer, a model that writes all but the last."""
    tokenizer, file = model_folder.load(start / "model").tokenizer, start / "pairs.jsonl"
    pairs = [{"prompt": "1?", "chosen": "A" * length, "rejected": "b"} for length in range(1, 64)]
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    lengths = [len(encode_pair(tokenizer, pair)[0].ids) for pair in read_preferences([str(file)])]
    assert min(lengths) < longest < max(lengths)
    found = tune(_recipe(start, stage, validation=[str(file)]), start / "run", _display())
    assert sum(found["skipped"].values()) == sum(length > longest for length in lengths)


def test_a_killed_dpo_goes_on_to_the_same_numbers(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = _recipe(start, "dpo")
    whole = tune(recipe, start / "whole", _display())
    run = _kill_at(7, monkeypatch, recipe, start / "run")
    assert (run.checkpoints / "step-4").is_dir()
    table = load_file(run.folder / "reference.safetensors")["train"].clone()
    found = resume_tuning(run, _display())
    assert torch.equal(load_file(run.folder / "reference.safetensors")["train"], table)
    for name in ("steps", "loss_before", "loss", "accuracy"):
        assert found[name] == whole[name]
    assert whole["beta"] == 0.1
    one, other = (
        [(row["step"], row["loss"]) for row in read_rows(start / name / "metrics.jsonl") if "lr" in row]
        for name in ("run", "whole")
    )
    assert one == other and len(one) == 12
    trained, expected = (load_file(start / name / "model" / "model.safetensors") for name in ("run", "whole"))
    assert all(torch.equal(trained[name], expected[name]) for name in expected)


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
def test_a_run_whose_data_has_changed_does_not_go_on(
    stage: str, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _kill_at(5, monkeypatch, _recipe(start, stage), start / "run")
    _write_pairs(start, 41)
    with pytest.raises(UserError, match=r"changed since it began; put back .*pairs.jsonl, or begin") as caught:
        resume_tuning(run, _display())
    assert "\n" not in str(caught.value)
    _write_pairs(start, 40)
    assert resume_tuning(run, _display())["steps"] == 12


def test_kto_takes_whole_batches_only(start: Path) -> None:
    """Its estimate of the KL divergence is of a batch; half of one gives another."""
    recipe = _recipe(start, "dpo", loss="kto", micro_batch=2)
    with pytest.raises(UserError, match=r"^dpo.micro_batch=2 divides a batch of 4, but KTO .*leave it out"):
        tune(recipe, start / "run", _display())
    assert not (start / "run").exists()
    recipe.dpo.micro_batch = 4
    assert tune(recipe, start / "run", _display())["steps"] == 12
    job = TuneJob(prepare(recipe, start / "many"), recipe, _display(), "cpu", "fp32")
    with pytest.raises(UserError, match=r"2 processes divide a batch, but KTO .*leave out --nproc"):
        dpo.carry_on(replace(job, processes=Processes(0, 2, 0, 2)), Clock(None))


def test_kto_holds_out_two_answers_where_a_share_would_be_one(start: Path) -> None:
    """The estimate wants another's answer beside each."""
    judged = [{"prompt": f"{number}?", "completion": "A", "label": number % 2 == 0} for number in range(12)]
    (start / "judged.jsonl").write_text("".join(json.dumps(one) + "\n" for one in judged))
    recipe = _recipe(start, "dpo", loss="kto", data=[str(start / "judged.jsonl")], budget="1steps")
    outcome = tune(recipe, start / "run", _display())
    assert (outcome["examples"], outcome["held_out_examples"]) == (10, 2)


def test_ends_that_are_cut_off_are_told(start: Path) -> None:
    talks = [{"prompt": f"{number}?", "completion": "A" * (200 if number < 3 else 4)} for number in range(12)]
    (start / "talks.jsonl").write_text("".join(json.dumps(one) + "\n" for one in talks))
    (start / "held.jsonl").write_text(json.dumps(talks[-1]) + "\n")
    sources = {"data": [str(start / "talks.jsonl")], "validation": [str(start / "held.jsonl")]}
    display = _display()
    assert tune(_recipe(start, "sft", budget="1steps", **sources), start / "run", display)["cut_off"] == 3
    assert isinstance(display.console.file, io.StringIO)
    assert "3 examples have more than 64 tokens; their ends are cut off" in display.console.file.getvalue()


def test_answers_are_encoded_with_the_tools_that_could_be_called(tmp_path: Path) -> None:
    template = "{% for tool in tools or [] %}[{{ tool.name }}]{% endfor %}{% for message in messages %}"
    template += "{{ message.role }}: {{ message.content }}<|end|>{% endfor %}"
    template += "{% if add_generation_prompt %}assistant: {% endif %}"
    (tmp_path / "tools.jinja").write_text(template)
    tokenizer = with_template(Tokenizer.train(["a"], 257), str(tmp_path / "tools.jinja"))
    asked, said = [{"role": "user", "content": "Q"}], [{"role": "assistant", "content": "A"}]
    tools = [{"name": "clock"}]
    for turns in (
        *encode_pair(tokenizer, Preference(asked, said, said, "", tools)),
        encode_judged(tokenizer, Judged(asked, said, True, "", tools))[0],
    ):
        assert tokenizer.decode(turns.ids.tolist()).startswith("[clock]user: Q")
