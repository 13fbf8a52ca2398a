"""What `groundup doctor` says of conversations and of the stages that learn from them."""

import json
from pathlib import Path
from typing import Any

import pytest

from groundup.model import folder as model_folder
from groundup.model.registry import build
from groundup.pipeline.doctor import examine
from groundup.pipeline.doctor_stages import Finding
from groundup.recipe import Recipe, load
from groundup.run import Run
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer

GOOD = {"prompt": "Why?", "completion": "Because."}


def _json_lines(path: Path, *records: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a model of 48 tokens of context that reads bytes."""
    tokenizer = Tokenizer.train(["a"], 257)
    shape = Shape(
        family="llama",
        num_layers=1,
        width=16,
        num_heads=2,
        num_kv_heads=1,
        head_width=8,
        feedforward_width=16,
        vocabulary_size=257,
        context=48,
    )
    folder = tmp_path_factory.mktemp("model") / "tiny"
    model_folder.save(folder, build(shape), tokenizer, "")
    return str(folder)


def _of_stage(tmp_path: Path, stage: str, **settings: Any) -> list[Finding]:
    """The findings for a run of this stage."""
    recipe = Recipe.model_validate({"stage": stage, stage: settings})
    Run.create(tmp_path / "run", recipe)
    return examine(str(tmp_path / "run"))


def _bad(findings: list[Finding]) -> list[str]:
    return [finding.sentence for finding in findings if not finding.good]


def test_a_file_is_described_with_the_lines_that_are_wrong(tmp_path: Path) -> None:
    file = _json_lines(tmp_path / "a.jsonl", GOOD, {"x": 1}, *[GOOD] * 2, {"prompt": "Why?"}, {"messages": [3]})
    findings = examine(file)
    # One of the four has a single turn.
    assert findings[0] == (True, f"{file} is readable: 4 of the shape prompt and completion; 1.8 turns each.")
    assert any(good and "1 examples are without an answer" in sentence for good, sentence in findings)
    assert [sentence.split(":")[0] for sentence in _bad(findings)] == [f"{file}, line {line}" for line in (2, 6)]


def test_a_file_of_prompts_alone_is_one_of_prompts(tmp_path: Path, model: str) -> None:
    """Also with answers that are no text; but there is nothing to imitate."""
    file = _json_lines(tmp_path / "a.jsonl", {"prompt": "Why?"}, {"prompt": "2+2?", "answer": 4})
    for findings in (examine(file), examine("demo:prompts")):
        assert not _bad(findings)
        assert any(sentence.startswith("They only ask") for _, sentence in findings)
    of_ppo = _of_stage(tmp_path, "ppo", model=model, data=[file], template="plain", tokens=8, reward="r.py")
    assert [sentence[:18] for sentence in _bad(of_ppo)] == ["It is not finished"]
    (tmp_path / "sft").mkdir()
    only = _json_lines(tmp_path / "b.jsonl", {"prompt": "Why?"})
    of_sft = _bad(_of_stage(tmp_path / "sft", "sft", model=model, data=[only]))
    assert of_sft[0].startswith("1 examples are without an answer") and f"{only}, line 1" in of_sft[0]


def test_texts_are_described_as_before(tmp_path: Path) -> None:
    findings = examine(_json_lines(tmp_path / "a.jsonl", {"text": "Why? Because."}))
    assert "1 documents" in findings[0].sentence


def test_a_stage_tells_how_many_tokens_count(tmp_path: Path, model: str) -> None:
    findings = _of_stage(
        tmp_path, "sft", model=model, data=[_json_lines(tmp_path / "a.jsonl", GOOD)], template="plain"
    )
    # "User: Why?\n\nAssistant:" and " Because.<|endoftext|>", byte by byte.
    assert any("10 of 32 tokens are learnt" in sentence for _, sentence in findings)
    assert _bad(findings) == [
        f"It is not finished; `groundup build --resume --out {tmp_path / 'run'}` continues it."
    ]


@pytest.mark.parametrize("stage", ["sft", "dpo", "reward"])
def test_a_stage_with_everything_masked_is_refused(stage: str, tmp_path: Path, model: str) -> None:
    """The prompt alone fills the context: no batch would have a target."""
    record = {"prompt": "Why? " * 20, "completion": "A.", "chosen": "A.", "rejected": "B."}
    findings = _of_stage(tmp_path, stage, model=model, data=[_json_lines(tmp_path / "a.jsonl", record)])
    assert any("of 1 examples 0 fit into 49 tokens (1 too long)" in sentence for sentence in _bad(findings))


def test_half_of_the_data_left_out_is_told(tmp_path: Path, model: str) -> None:
    long = {"prompt": "Why? " * 20, "completion": "A."}
    file = _json_lines(tmp_path / "a.jsonl", GOOD, long, long)
    findings = _of_stage(tmp_path, "sft", model=model, data=[file], template="plain")
    assert any("2 are left out as too long" in sentence for sentence in _bad(findings))


def test_ends_that_are_cut_off_are_told(tmp_path: Path, model: str) -> None:
    file = _json_lines(tmp_path / "a.jsonl", GOOD, {"prompt": "Why?", "completion": "Because " * 9})
    findings = _of_stage(tmp_path, "sft", model=model, data=[file], template="plain")
    assert any("; 1 are cut off at their end" in sentence for _, sentence in findings)


def test_prompts_must_leave_room_for_answers(tmp_path: Path, model: str) -> None:
    file = _json_lines(tmp_path / "a.jsonl", GOOD)
    findings = _of_stage(tmp_path, "grpo", model=model, data=[file], template="plain", tokens=40, reward="r.py")
    assert any("0 of 1 prompts leave room for 40 tokens in 48" in sentence for sentence in _bad(findings))


def test_a_recipe_without_a_model_is_told(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text('stage = "sft"\n[sft]\ndata = ["demo:instructions"]\n')
    assert load(str(file)).stage == "sft"
    assert _bad(examine(str(file))) == ["The stage sft has no model to start from; name it in the recipe."]
