"""Adapter folders, with peft as the judge: both read what the other wrote, and say the same."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from groundup.errors import UserError
from groundup.model import folder as model_folder
from groundup.model.decoder import Decoder
from groundup.model.lora import LoraLinear, adapters_off, add_adapters
from groundup.model.registry import build
from groundup.model.vocabulary import grow_vocabulary, train_rows
from groundup.pipeline.stored_models import open_model
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer
from groundup.tune.adapters import load_adapter, save_adapter

FAMILIES = ("gpt1", "gpt2", "llama", "qwen3")
GPT = ("gpt1", "gpt2")
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
TOKENIZER = Tokenizer.train(["to be or not to be, that is the question " * 3], 290)
_CHAT = TOKENIZER.special_tokens | {
    "<|im_start|>": TOKENIZER.vocabulary_size,
    "<|im_end|>": TOKENIZER.vocabulary_size + 1,
}
CHAT_TOKENIZER = Tokenizer(replace(TOKENIZER.definition, special_tokens=_CHAT))
Store = Callable[..., Path]


@pytest.fixture
def ids() -> Tensor:
    """(2, 16)."""
    return torch.randint(0, TOKENIZER.vocabulary_size, (2, 16), generator=torch.Generator().manual_seed(3))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Write a random model to the folder `base`."""

    def write(family: str, name: str = "base", **changes: Any) -> Path:
        numbers = {
            "num_layers": 2, "width": 32, "num_heads": 4, "num_kv_heads": 4 if family in GPT else 2,
            "head_width": 8, "feedforward_width": 128, "vocabulary_size": TOKENIZER.vocabulary_size, "context": 16,
        }  # fmt: skip
        model = build(Shape(family=family, **numbers | changes), seed=1)
        randomise(model, 0.2)
        model_folder.save(tmp_path / name, model, TOKENIZER, "")
        return tmp_path / name

    return write


@torch.no_grad()
def randomise(model: nn.Module, spread: float, part: str = "") -> None:
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if part in name:
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=spread)


@torch.no_grad()
def logits(model: nn.Module, ids: Tensor) -> Tensor:
    answer = model.eval()(ids)
    return getattr(answer, "logits", answer)


def largest_difference(one: Tensor, other: Tensor) -> float:
    assert one.shape == other.shape
    return float((one - other).abs().max())


def taught(base: Path, targets: str = "all", rank: int = 4, alpha: float = 6.0, grown: bool = False) -> Decoder:
    """The base with adapters, and rows of new tokens, that have learnt something."""
    model = model_folder.load(base).model
    add_adapters(model, rank, alpha, targets, 0.0, seed=7)
    if grown:
        grow_vocabulary(model, CHAT_TOKENIZER.vocabulary_size)
    for part in ("lora_B", "rows"):
        randomise(model, 0.1, part)
    return model


@pytest.mark.parametrize("targets", ["attention", "all"])
@pytest.mark.parametrize("family", FAMILIES)
def test_peft_reads_what_we_write(family: str, targets: str, store: Store, tmp_path: Path, ids: Tensor) -> None:
    base = store(family)
    model = taught(base, targets)
    save_adapter(tmp_path / "adapter", model, TOKENIZER, str(base), "a card")
    plain = AutoModelForCausalLM.from_pretrained(base)
    expected = logits(model, ids)
    assert largest_difference(expected, logits(plain, ids)) > 0.1
    theirs = peft.PeftModel.from_pretrained(plain, str(tmp_path / "adapter"))
    assert largest_difference(expected, logits(theirs, ids)) < 1e-5
    with adapters_off(model), theirs.disable_adapter():
        assert largest_difference(logits(model, ids), logits(theirs, ids)) < 1e-5
    assert largest_difference(expected, logits(theirs.merge_and_unload(), ids)) < 1e-5
    again = load_adapter(tmp_path / "adapter").model
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(again.state_dict()[name], value) for name, value in model.state_dict().items())
    whole = load_adapter(tmp_path / "adapter", merge=True).model
    assert largest_difference(expected, logits(whole, ids)) < 1e-5


_TARGETS: dict[str, list[Any]] = {
    "gpt2": [["c_attn", "mlp.c_proj"], ["c_attn", "c_proj", "c_fc"]],
    "llama": [["q_proj", "v_proj", "down_proj"], r".*\.1\.self_attn\.(k|o)_proj", "all-linear"],
    "qwen3": [["o_proj", "gate_proj", "up_proj"]],
}


@pytest.mark.parametrize(
    ("family", "targets"), [(name, one) for name, several in _TARGETS.items() for one in several]
)
def test_we_read_what_peft_writes(family: str, targets: Any, store: Store, tmp_path: Path, ids: Tensor) -> None:
    base = store(family)
    last = "c_proj" if family == "gpt2" else "o_proj"
    config = peft.LoraConfig(
        r=3, lora_alpha=5, target_modules=targets, task_type="CAUSAL_LM", fan_in_fan_out=family == "gpt2",
        rank_pattern={last: 2}, alpha_pattern={rf"[a-z]*\.1\..*{last}": 7},
    )  # fmt: skip
    theirs = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    randomise(theirs, 0.1, "lora_B")
    theirs.save_pretrained(tmp_path / "adapter")
    assert largest_difference(logits(theirs, ids), logits(model_folder.load(base).model, ids)) > 0.02
    for merge in (False, True):
        ours = load_adapter(tmp_path / "adapter", merge)
        assert largest_difference(logits(ours.model, ids), logits(theirs, ids)) < 1e-5
        assert ours.tokenizer == TOKENIZER  # the base's: peft writes none
    trained = {
        name for name, value in load_adapter(tmp_path / "adapter").model.named_parameters() if value.requires_grad
    }
    assert trained and all(".lora_" in name for name in trained)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_new_tokens_load_in_peft(family: str, tied: bool, store: Store, tmp_path: Path, ids: Tensor) -> None:
    """By the class that makes room for the tokenizer of an adapter's folder."""
    base = store(family, tied=tied)
    ids[:, 3], ids[0, 4] = TOKENIZER.vocabulary_size, TOKENIZER.vocabulary_size + 1
    model = taught(base, grown=True)
    save_adapter(tmp_path / "adapter", model, CHAT_TOKENIZER, str(base), "a card")
    theirs = peft.AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "adapter"))
    assert largest_difference(logits(model, ids), logits(theirs, ids)) < 1e-5
    ours = load_adapter(tmp_path / "adapter")
    assert torch.equal(logits(ours.model, ids), logits(model, ids))
    assert ours.tokenizer == CHAT_TOKENIZER
    whole = model_folder.load(tmp_path / "adapter").model
    assert whole.shape.vocabulary_size == CHAT_TOKENIZER.vocabulary_size
    # In float64: what is left is the rounding of the merged weights, whatever order a processor adds in.
    assert largest_difference(logits(model.double(), ids), logits(whole.double(), ids)) < 1e-5


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_all_rows_load_in_peft(family: str, tied: bool, store: Store, tmp_path: Path, ids: Tensor) -> None:
    base = store(family, tied=tied)
    model = taught(base)
    train_rows(model, range(TOKENIZER.vocabulary_size))
    randomise(model, 0.1, "rows")
    save_adapter(tmp_path / "adapter", model, TOKENIZER, str(base), "a card")
    theirs = peft.AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "adapter"))
    assert largest_difference(logits(model, ids), logits(theirs, ids)) < 1e-5
    assert torch.equal(logits(load_adapter(tmp_path / "adapter").model, ids), logits(model, ids))


@pytest.mark.parametrize("tied", [True, False])
def test_old_tokens_that_peft_trained(tied: bool, store: Store, tmp_path: Path, ids: Tensor) -> None:
    base, chosen = store("llama", tied=tied), sorted({int(number) for number in ids[0, :3]})
    indices = {"embed_tokens": chosen} | ({} if tied else {"lm_head": chosen})
    config = peft.LoraConfig(
        r=2, target_modules=["q_proj"], trainable_token_indices=indices if not tied else chosen
    )
    theirs = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for part in ("lora_B", "trainable_tokens_delta"):
        randomise(theirs, 0.3, part)
    theirs.save_pretrained(tmp_path / "adapter")
    assert largest_difference(logits(load_adapter(tmp_path / "adapter").model, ids), logits(theirs, ids)) < 1e-5


def test_adapters_alone_are_written(store: Store, tmp_path: Path) -> None:
    base = store("llama")
    model = taught(base, "attention", rank=2, grown=True)
    save_adapter(tmp_path / "adapter", model, CHAT_TOKENIZER, str(base), "# A card", {"eos_token_id": [0, 291]})
    learnt = 2 * 2 * (2 * (32 + 32) + 2 * (32 + 16)) + 2 * 32  # rank 2; q and o, k and v; two rows
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) == learnt
    assert 4 * learnt < (tmp_path / "adapter" / WEIGHTS).stat().st_size < 4 * learnt + 4096
    assert (base / "model.safetensors").stat().st_size > 20 * 4 * learnt
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        CONFIG, WEIGHTS, "README.md", "generation_config.json", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip
    generation = json.loads((tmp_path / "adapter" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [0, 291]


def test_wherever_a_model_is_asked_for(
    store: Store, tmp_path: Path, ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder, a run's, and adapters that stand on adapters; the base by a path from the folder or from here."""
    base = store("llama")
    model = taught(base)
    expected = logits(model, ids)
    monkeypatch.chdir(tmp_path)
    for folder, named in (("near", "../base"), ("here", "base"), ("runs/lora/model", str(base))):
        save_adapter(tmp_path / folder, model, TOKENIZER, named, "")
        place = Path(folder) if folder != "runs/lora/model" else Path("runs/lora")
        for found in (model_folder.load(place), model_folder.load_any(place), open_model(place)):
            assert largest_difference(logits(found.model, ids), expected) < 1e-5
            assert found.tokenizer == TOKENIZER
    (tmp_path / "near" / "tokenizer.json").unlink()
    assert model_folder.load("near").tokenizer == TOKENIZER
    second = taught(Path("near"), "attention", rank=1)
    save_adapter(tmp_path / "second", second, TOKENIZER, "../near", "")
    assert largest_difference(logits(model_folder.load("second").model, ids), logits(second, ids)) < 1e-5


def _config(**changes: Any) -> Callable[[Path], None]:
    """Change entries of adapter_config.json; None takes one away."""

    def change(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text()) | changes
        (folder / CONFIG).write_text(
            json.dumps({key: value for key, value in config.items() if value is not None})
        )

    return change


def _base(name: str) -> Callable[[Path], None]:
    return _config(base_model_name_or_path=name)


def _without(part: str) -> Callable[[Path], None]:
    """Take tensors away."""

    def change(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        save_file({name: value for name, value in tensors.items() if part not in name}, folder / WEIGHTS)

    return change


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_base("gone/model"), "the model gone/model, which is not there; write the model's place"),
        (_base("../adapter"), "which is not there"),
        (_base("../wide"), "base is another model: rows .2, 32. do not fit"),
        (_base("../thin"), r"another model: beside blocks.0.feedforward.\w+ stands .*128.*, not .*64"),
        (_base("../flat"), "it changes model.layers.1.*, which a llama of 1 layers has not"),
        (_base("../gpt"), "it changes model.embed_tokens, which a gpt2 of 2 layers has not"),
        (_config(r=8), "has rank 8 in adapter_config.json, but A is"),
        (_config(r=None), "adapter_config.json lacks 'r'"),
        (_config(use_dora=True), "use_dora=True"),
        (_config(init_lora_weights="pissa"), "pissa"),
        (_config(peft_type="IA3"), "peft_type is 'IA3'"),
        (_config(trainable_token_indices=[5]), "trainable_token_indices differ"),
        (
            _without("layers.0.self_attn.q_proj.lora_B"),
            "lacks the matrices of 1 modules, the first model",
        ),
        (
            _without("layers.1.mlp.up_proj"),
            "of 1 modules, the first model.layers.1.mlp.up_proj",
        ),
        (lambda folder: (folder / CONFIG).write_text("[]"), "no JSON object"),
        (lambda folder: (folder / WEIGHTS).unlink(), "No such file"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"12345678"), "holds no adapter that groundup reads"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(
    break_it: Callable[[Path], None], message: str, store: Store, tmp_path: Path
) -> None:
    base = store("llama")
    store("llama", "wide", width=48)
    store("llama", "thin", feedforward_width=64)
    store("llama", "flat", num_layers=1)
    store("gpt2", "gpt")
    folder = tmp_path / "adapter"
    save_adapter(folder, taught(base, grown=True), CHAT_TOKENIZER, "../base", "")
    break_it(folder)
    for read in (load_adapter, model_folder.load):
        with pytest.raises(UserError, match=message) as error:
            read(folder)
        assert "\n" not in str(error.value)


def test_a_whole_model_is_no_adapter(store: Store) -> None:
    with pytest.raises(UserError, match="holds a whole model and no adapter"):
        load_adapter(store("llama"))


def test_a_folder_with_both_is_the_whole_model(store: Store, tmp_path: Path, ids: Tensor) -> None:
    base = store("llama")
    expected = logits(model_folder.load(base).model, ids)
    save_adapter(tmp_path / "adapter", taught(base), TOKENIZER, str(base), "")
    for name in (CONFIG, WEIGHTS):
        shutil.copy(tmp_path / "adapter" / name, base)
    assert torch.equal(logits(model_folder.load(base).model, ids), expected)


def test_dropout_is_kept(store: Store, tmp_path: Path) -> None:
    base = store("llama")
    model = model_folder.load(base).model
    add_adapters(model, 2, 4.0, "all", 0.25, seed=7)
    save_adapter(tmp_path / "adapter", model, TOKENIZER, str(base), "")
    adapters = [
        part for part in load_adapter(tmp_path / "adapter").model.modules() if isinstance(part, LoraLinear)
    ]
    assert len(adapters) == 14 and all(part.dropout.p == 0.25 for part in adapters)
