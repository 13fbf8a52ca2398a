import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PretrainedConfig

from groundup.errors import UserError
from groundup.model.folder import save
from groundup.model.lora import add_adapters, has_adapters
from groundup.model.registry import build
from groundup.model.reward import RewardModel
from groundup.shape import FAMILIES, Shape
from groundup.tokenizer import Tokenizer
from groundup.tune.adapters import save_adapter
from groundup.tune.reward_folder import load_reward, save_reward
from tests.shapes import experts

ABOUT = {"accuracy": 0.7, "accuracy_low": 0.6, "accuracy_high": 0.8, "pairs": 100}


@pytest.fixture(scope="module")
def own_tokenizer() -> Tokenizer:
    return Tokenizer.train(
        ["to be or not to be"], vocabulary_size=258, special_tokens=["<|endoftext|>", "<|pad|>"]
    )


def _model(family: str, tied: bool = True) -> RewardModel:
    num_kv_heads = 2 if FAMILIES[family].grouped_query else 4
    shape = Shape(
        family=family, num_layers=2, width=32, num_heads=4, num_kv_heads=num_kv_heads,
        head_width=8, feedforward_width=48, vocabulary_size=258, context=24, tied=tied, **experts(family),
    )  # fmt: skip
    body, generator = build(shape, seed=1), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    model = RewardModel(body).eval()
    model.normalise(torch.tensor([1.0, 2.0, 5.0]))
    return model


def _ids(pad: int) -> tuple[Tensor, Tensor]:
    """Padded on the right."""
    ids = torch.randint(0, 256, (3, 20), generator=torch.Generator().manual_seed(3))
    last = torch.tensor([19, 7, 0])
    return ids.where(torch.arange(20) <= last[:, None], pad), last


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3", "qwen3_moe"])
@torch.no_grad()
def test_transformers_gives_the_same_scores_there_and_back(
    family: str, tied: bool, own_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = _model(family, tied)
    save_reward(tmp_path / "ours", model, own_tokenizer, ABOUT)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "ours").eval()
    ids, last = _ids(theirs.config.pad_token_id)
    expected = model.scores(ids, last)
    torch.testing.assert_close(theirs(ids).logits.squeeze(-1), expected, rtol=0, atol=1e-5)
    loaded = load_reward(tmp_path / "ours")
    assert torch.equal(loaded.model(ids, last), model(ids, last)) and not loaded.model.training
    assert loaded.tokenizer == own_tokenizer
    assert loaded.about.items() >= ABOUT.items() and loaded.about["mean"] == pytest.approx(8 / 3)
    theirs.save_pretrained(tmp_path / "theirs")
    own_tokenizer.save(tmp_path / "theirs")
    again = load_reward(tmp_path / "theirs")
    torch.testing.assert_close(again.model.scores(ids, last), expected, rtol=0, atol=1e-5)
    assert again.about == {} and again.model.std == 1.0


def test_the_config_is_that_of_a_classifier_with_one_label(own_tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_reward(tmp_path, _model("llama"), own_tokenizer, ABOUT, "# Of films\n")
    config = PretrainedConfig.from_pretrained(tmp_path)
    assert (config.num_labels, config.id2label, config.label2id) == (1, {0: "reward"}, {"reward": 0})
    assert config.architectures == ["LlamaForSequenceClassification"] and config.pad_token_id == 256
    assert not any("lm_head" in name for name in load_file(tmp_path / "model.safetensors"))
    assert (tmp_path / "README.md").read_text() == "# Of films\n"


def test_adapters_are_written_into_the_weights_and_stay_in_the_model(
    own_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = _model("qwen3")
    add_adapters(model.body, 2, 4.0, "all", 0.0, seed=1)
    generator = torch.Generator().manual_seed(5)
    ids, last = _ids(0)
    with torch.no_grad():
        for name, weight in model.body.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=generator, std=0.1)
        expected = model(ids, last)
        save_reward(tmp_path / "reward", model, own_tokenizer, ABOUT)
        torch.testing.assert_close(load_reward(tmp_path / "reward").model(ids, last), expected, rtol=0, atol=1e-5)
        assert torch.equal(model(ids, last), expected)


@pytest.mark.parametrize("family", ["gpt2", "qwen3"])
def test_adapters_alone_are_read_by_peft_and_what_peft_writes_by_us(
    family: str, own_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    policy = build(_model(family).shape, seed=1)
    save(tmp_path / "policy", policy, own_tokenizer, "card")
    model = RewardModel(policy).eval()
    add_adapters(model.body, 2, 4.0, "all", 0.0, seed=1)
    model.normalise(torch.tensor([1.0, 2.0]))
    with torch.no_grad():
        for name, weight in model.body.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(5), std=0.1)
        save_reward(tmp_path / "ours", model, own_tokenizer, ABOUT, base=str(tmp_path / "policy"))
        theirs = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "ours", num_labels=1).eval()
        theirs.config.pad_token_id = theirs.base_model.model.config.pad_token_id = 256
        ids, last = _ids(256)
        scores = model.scores(ids, last)
        torch.testing.assert_close(theirs(ids).logits.squeeze(-1), scores, rtol=0, atol=1e-5)
        loaded = load_reward(tmp_path / "ours")
        torch.testing.assert_close(loaded.model(ids, last), model(ids, last), rtol=0, atol=1e-5)
        assert loaded.about["pairs"] == 100 and not has_adapters(loaded.model)
        theirs.save_pretrained(tmp_path / "theirs")
        again = load_reward(tmp_path / "theirs").model.scores(ids, last)
    torch.testing.assert_close(again, scores, rtol=0, atol=1e-5)
    whole = (tmp_path / "policy" / "model.safetensors").stat().st_size
    assert (tmp_path / "ours" / "adapter_model.safetensors").stat().st_size < whole / 2


def test_adapters_without_a_head_are_no_reward_model(own_tokenizer: Tokenizer, tmp_path: Path) -> None:
    policy = build(_model("qwen3").shape, seed=1)
    save(tmp_path / "policy", policy, own_tokenizer, "card")
    add_adapters(policy, 2, 4.0, "attention", 0.0, seed=1)
    save_adapter(tmp_path / "adapter", policy, own_tokenizer, str(tmp_path / "policy"), "card")
    assert "it has no head that gives a number" in _error(tmp_path / "adapter")


def test_a_runs_folder_gives_its_model(own_tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_reward(tmp_path / "run" / "model", _model("gpt2"), own_tokenizer, ABOUT)
    assert load_reward(str(tmp_path / "run")).about["pairs"] == 100


def _error(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        load_reward(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_other_models_and_damage_are_told_in_one_line(own_tokenizer: Tokenizer, tmp_path: Path) -> None:
    save(tmp_path / "policy", build(_model("qwen3").shape), own_tokenizer, "card")
    assert "holds no reward model (no score.weight)" in _error(tmp_path / "policy")
    assert "no config.json" in _error(tmp_path / "nothing")
    whole = tmp_path / "reward"
    save_reward(whole, _model("qwen3"), own_tokenizer, ABOUT)
    for name, content in (("reward.json", "{"), ("reward.json", '{"mean": "much"}'), ("config.json", "{}")):
        folder = tmp_path / "damaged"
        shutil.copytree(whole, folder, dirs_exist_ok=True)
        (folder / name).write_text(content)
        assert name in _error(folder)
    (tmp_path / "damaged" / "config.json").write_text((whole / "config.json").read_text())
    weights = load_file(whole / "model.safetensors")
    save_file(weights | {"score.weight": torch.zeros(2, 32)}, tmp_path / "damaged" / "model.safetensors")
    assert "gives 2 numbers" in _error(tmp_path / "damaged")
    del weights["model.norm.weight"]
    save_file(weights, tmp_path / "damaged" / "model.safetensors")
    assert "missing ['norm.weight']" in _error(tmp_path / "damaged")


def test_what_stands_in_reward_json(own_tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_reward(tmp_path, _model("gpt2"), own_tokenizer, ABOUT)
    assert json.loads((tmp_path / "reward.json").read_text()).keys() == {*ABOUT, "mean", "std"}
