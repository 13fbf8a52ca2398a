import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file

from tests.cli.support import TINY, Result

Groundup = Callable[..., Result]


def _ledger(groundup: Groundup, *arguments: str | Path) -> dict[str, object]:
    finished = groundup("plan", "ledger", *arguments, "--json")
    assert finished.returncode == 0, finished.stderr
    values: dict[str, object] = json.loads(finished.stdout)
    return values


def test_a_published_model_in_the_terminal(groundup: Groundup) -> None:
    """Eight categories, the sum and the ways of counting are there."""
    begun = time.perf_counter()
    finished = groundup("plan", "ledger", "gpt3")
    seconds = time.perf_counter() - begun
    assert finished.returncode == 0, finished.stderr
    for figure in ("175,181,291,520", "27,938", "37,058", "578", "174,604,259,328"):
        assert figure in " ".join(finished.stdout.split()), figure
    assert seconds < 3  # 0.8 s here, alone


def test_explanations_and_page(groundup: Groundup, tmp_path: Path) -> None:
    page = tmp_path / "ledger.html"
    explained = groundup("plan", "ledger", "llama3-8b", "--explain", "kv_cache_bytes_per_token", "--html", page)
    assert explained.returncode == 0, explained.stderr
    assert "2 L K d b / 8" in explained.stdout
    assert "query" in page.read_text("utf-8")


def test_length_changes_attention_alone(groundup: Groundup) -> None:
    short, long = (_ledger(groundup, "gpt2", "--seq", length) for length in ("2", "1024"))
    differences = {name for name in short if short[name] != long[name]}
    assert differences == {"forward_flops_per_token", "train_flops_per_token", "kv_cache_bytes", "flops"}


@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        ("gpt2", {"n_layer": 2, "n_embd": 24, "n_head": 3, "n_positions": 16, "vocab_size": 70}),
        ("llama", {"num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2,
                   "intermediate_size": 40, "vocab_size": 70, "max_position_embeddings": 32}),
        ("qwen3", {"num_hidden_layers": 1, "hidden_size": 20, "num_attention_heads": 4, "num_key_value_heads": 2,
                   "head_dim": 8, "intermediate_size": 40, "vocab_size": 70, "max_position_embeddings": 32}),
        # Not one of ours: counted from the names of its tensors.
        ("mistral", {"num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2,
                     "intermediate_size": 40, "vocab_size": 70}),
        ("bert", {"num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 4, "intermediate_size": 40,
                  "vocab_size": 70}),
    ],
)  # fmt: skip
def test_a_folder_of_transformers(
    groundup: Groundup, tmp_path: Path, model_type: str, changes: dict[str, int]
) -> None:
    model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(model_type, **changes))
    if model_type in ("gpt2", "llama", "qwen3"):
        model = transformers.AutoModelForCausalLM.from_config(model.config)
    model.save_pretrained(tmp_path / "model")
    values = _ledger(groundup, "model")
    assert values["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    notes = " ".join(map(str, values["notes"]))  # type: ignore[call-overload]
    if model_type in ("gpt2", "llama", "qwen3"):
        assert values["family"] == model_type
        assert "the files hold exactly these" in notes
    else:
        assert f"model_type='{model_type}'" in notes
        assert values["stored_bytes"] == 4 * int(str(values["parameters"]))


def test_a_configuration_alone_and_one_that_is_not_computed_here(groundup: Groundup, tmp_path: Path) -> None:
    """Llama 3.1's config.json: its scaled rotary positions change no parameter."""
    config = {
        "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
        "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 131072, "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3"},
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert _ledger(groundup, tmp_path)["parameters"] == 8_030_261_248


def test_a_run(
    groundup: Groundup, build: Callable[..., dict[str, object]], text_file: Path, tmp_path: Path
) -> None:
    build(text_file, *TINY, "--budget", "3steps", "--out", "run")
    values = _ledger(groundup, "run")
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert values["parameters"] == plan["parameters"]
    assert _ledger(groundup, "run/model")["parameters"] == plan["parameters"]


def test_mistakes_are_told_in_one_line(groundup: Groundup, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "moe").mkdir()
    (tmp_path / "moe" / "config.json").write_text('{"model_type": "moe"}')
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "config.json").write_text('{"model_type": "moe"}')
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "config.json").write_text('{"model_type": "moe"}')
    save_file({"a": torch.ones(0, 4)}, tmp_path / "nothing" / "model.safetensors")
    save_file({"a": torch.ones(4)}, tmp_path / "torn" / "model.safetensors")
    content = (tmp_path / "torn" / "model.safetensors").read_bytes()
    (tmp_path / "torn" / "model.safetensors").write_bytes(content[:-3])
    (tmp_path / "unplanned").mkdir()
    (tmp_path / "unplanned" / "recipe.toml").write_text("")
    for subject, told in {
        "gpt33": "did you mean 'gpt3'",
        "empty": "neither a run's folder (recipe.toml) nor a model's (config.json)",
        "moe": "model_type='moe'; groundup reads gpt2, llama, qwen3, qwen3_moe; and there is no model.safetensors",
        "nothing": "there is no model.safetensors with weights",
        "torn": "cannot read",
        "unplanned": "has no plan yet",
    }.items():
        finished = groundup("plan", "ledger", subject)
        assert finished.returncode == 2, subject
        assert told in finished.stderr
        assert len(finished.stderr.splitlines()) == 1


def test_a_build_does_not_take_money(groundup: Groundup, text_file: Path, tmp_path: Path) -> None:
    finished = groundup("build", text_file, *TINY, "--budget", "$5", "--out", "run")
    assert finished.returncode == 2
    assert "groundup plan --budget '$5'" in finished.stderr
    assert len(finished.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()
