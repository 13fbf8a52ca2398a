"""The average of stored models of any family, and what has no average."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from groundup.errors import UserError
from groundup.model import folder as model_folder
from groundup.model.base import Model, ReadsSpelling
from groundup.model.folder import load, load_weights
from groundup.model.lora import LoraLinear, add_adapters
from groundup.model.registry import build_any
from groundup.pipeline.merge import merge
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer
from groundup.tune.adapters import save_adapter

_SPECIAL = ("<|endoftext|>", "<|pad|>")
TOKENIZER = Tokenizer.train(["to be or not to be, that is the question " * 3], 280, special_tokens=_SPECIAL)
_IMAGES = {
    "vocabulary_size": 1,
    "context": 48,
    "options": {"image_side": 4, "channels": 3, "classes": 2, "patch": 2},
}
FAMILIES: dict[str, dict[str, Any]] = {"gpt2": {}, "bert": {}, "elmo": {}, "t5": {}, "vit": _IMAGES}

Store = Callable[..., Path]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Write a random model of a family to the folder `name`."""

    def write(name: str, family: str, seed: int, tokenizer: Tokenizer = TOKENIZER, **changes: Any) -> Path:
        model = build_any(_shape(family, **changes), seed)
        if isinstance(model, ReadsSpelling):
            model.read_spelling([tokenizer.token_bytes(number) for number in range(tokenizer.vocabulary_size)])
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
        model_folder.save(tmp_path / name, model, None if family == "vit" else tokenizer, "")
        return tmp_path / name

    return write


def _shape(family: str, **changes: Any) -> Shape:
    numbers = {
        "num_layers": 2, "width": 16, "num_heads": 2, "num_kv_heads": 2, "head_width": 8, "feedforward_width": 32,
        "vocabulary_size": TOKENIZER.vocabulary_size, "context": 16,
    }  # fmt: skip
    return Shape(family=family, **numbers | FAMILIES[family] | changes)


def _weights(model: Model) -> dict[str, torch.Tensor]:
    return {name: value.double() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_two_equal_models_are_that_model(family: str, store: Store, tmp_path: Path) -> None:
    one = store("one", family, 1)
    again = Path(shutil.copytree(one, tmp_path / "again"))
    merge([one, again], tmp_path / "out")
    for name in {file.name for file in one.iterdir()} - {"README.md", "generation_config.json"}:
        assert (tmp_path / "out" / name).read_bytes() == (one / name).read_bytes(), name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("written", "shares"),
    [(None, (1 / 3, 1 / 3, 1 / 3)), ("0.5,0.2,0.3", (0.5, 0.2, 0.3)), ("3,0,1", (0.75, 0, 0.25))],
)
def test_each_weight_is_the_mean(
    family: str, written: str | None, shares: tuple[float, ...], store: Store, tmp_path: Path
) -> None:
    """To half a unit in the last place of float32: sums are exact to far more than that."""
    sources = [store(str(seed), family, seed) for seed in (1, 2, 3)]
    made = merge(sources, tmp_path / "out", written)
    assert [part["weight"] for part in made["merged"]] == pytest.approx(shares)
    parts = [_weights(load_weights(source)) for source in sources]
    found = load_weights(tmp_path / "out").state_dict()
    assert found.keys() == parts[0].keys()
    for name, value in found.items():
        if value.is_floating_point():
            mean = sum(share * part[name] for share, part in zip(shares, parts, strict=True))
            torch.testing.assert_close(value, mean.float(), rtol=2**-23, atol=1e-12)
        else:
            assert torch.equal(value.double(), parts[0][name])


def test_the_card_says_what_was_merged(store: Store, tmp_path: Path) -> None:
    merge([store("one", "gpt2", 1), store("two", "gpt2", 2)], tmp_path / "out", "1,3")
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert f"| {tmp_path / 'one'} | 0.25 |" in card
    assert f"| {tmp_path / 'two'} | 0.75 |" in card


def test_what_has_no_average(store: Store, tmp_path: Path) -> None:
    """One line that names the first difference, and nothing is written."""
    one, two, out = store("one", "gpt2", 1), store("two", "gpt2", 2), tmp_path / "out"
    wide = store("wide", "gpt2", 1, width=32, num_heads=4, num_kv_heads=4)
    other = store(
        "other",
        "gpt2",
        1,
        Tokenizer.train(
            ["what a piece of work is a man! how noble in reason! " * 3], 280, special_tokens=_SPECIAL
        ),
    )
    refused = [
        ([one], None, "one whole model is its own average; name an adapter"),
        ([one, wide], None, f"{wide} has width=32, but {one} width=16"),
        ([one, store("bert", "bert", 1)], None, "family=bert"),
        ([one, other], None, "it has token 2"),
        ([one, two], "0.5", "are 1 for 2 models"),
        ([one, two], "a,b", "write a number for each"),
        ([one, two], "1,-1", "no negative weights"),
        ([one, two], "0,0", "no negative weights, and one at least above 0"),
        ([one, two], "nan,1", "no negative weights"),
        ([one, tmp_path / "absent"], None, "neither a run nor a model folder"),
    ]
    for sources, weights, message in refused:
        with pytest.raises(UserError) as error:
            merge(sources, out, weights)
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    assert not out.exists()
    with pytest.raises(UserError, match="is there already"):
        merge([one, two], one)


def test_an_adapter_is_written_into_its_model(store: Store, tmp_path: Path) -> None:
    """The weights are those of the base and B A in float64; it ends and samples as the adapter's folder says."""
    base = store("base", "gpt2", 1)
    adapted = load(base)
    add_adapters(adapted.model, 2, 6.0, "attention", 0.0, seed=3)
    expected = _weights(load_weights(base))
    for name, module in adapted.model.named_modules():
        if isinstance(module, LoraLinear):
            torch.nn.init.normal_(module.lora_B.weight, generator=torch.Generator().manual_seed(4))
            expected[f"{name}.weight"] += 3 * module.lora_B.weight.double() @ module.lora_A.weight.double()
    save_adapter(tmp_path / "run/model", adapted.model, TOKENIZER, str(base), "", {"temperature": 0.7})
    made = merge([tmp_path / "run"], tmp_path / "out")
    assert made["base"] == str(base)
    found = _weights(load_weights(tmp_path / "out"))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value.detach()).abs().max() < 1e-6, name
    generation = "generation_config.json"
    assert (tmp_path / "out" / generation).read_bytes() == (tmp_path / "run/model" / generation).read_bytes()
    assert str(base) in (tmp_path / "out/README.md").read_text()
    merge([tmp_path / "run", base], tmp_path / "half")
    half = _weights(load_weights(tmp_path / "half"))
    assert all(
        (half[name] - (found[name] + _weights(load_weights(base))[name]) / 2).abs().max() < 1e-6 for name in half
    )


def test_an_adapter_without_its_model_is_refused(store: Store, tmp_path: Path) -> None:
    base = store("base", "gpt2", 1)
    model = load(base).model
    add_adapters(model, 2, 6.0, "attention", 0.0, seed=3)
    save_adapter(tmp_path / "adapter", model, TOKENIZER, str(base), "")
    base.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"belongs to the model .*base, which is not there; write"):
        merge([tmp_path / "adapter"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
