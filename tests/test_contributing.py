"""CONTRIBUTING.md shows how a family, an objective and an optimizer are added: that is done here as it says.

A block of code belongs to the file that the page named last before it. New files are written where imports find
them; of a file that is there the block is an entry of its dictionary.
"""

import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from rich.console import Console

import groundup.model.families
import groundup.objective
import groundup.train.optimizers
from groundup.interop.config import ARCHITECTURES
from groundup.model.base import TextModel
from groundup.model.folder import load_weights, save
from groundup.model.registry import _BUILDERS, build_any
from groundup.objective import OBJECTIVES, Objective, Setting
from groundup.pipeline.build import build
from groundup.pipeline.display import Display
from groundup.plan import parameters
from groundup.recipe import TrainRecipe, load
from groundup.run import Run
from groundup.shape import FAMILIES, Family, Shape
from groundup.tokenizer import Tokenizer
from groundup.train.optimizers import OPTIMIZERS, build_optimizer
from tests.cli.support import make_text

ROOT = Path(__file__).parent.parent
ENGLISH, CHINESE = ROOT / "CONTRIBUTING.md", ROOT / "docs" / "zh" / "contributing.md"
# Rooms that get a file from the page, and the entries that it shows: where they go, and what they are made of.
ROOMS = {
    "model/families": groundup.model.families,
    "objective": groundup.objective,
    "train/optimizers": groundup.train.optimizers,
}
ENTRIES = {
    "shape.py": FAMILIES,
    "interop/config.py": ARCHITECTURES,
    "objective/__init__.py": OBJECTIVES,
    "train/optimizers/__init__.py": OPTIMIZERS,
}
SPECIAL = {"<|endoftext|>": 60}
QUIET = Display(Console(quiet=True))
_BLOCK = re.compile(r"^ *```(?:python|toml)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`src/groundup/([\w/]+\.\w+)`")


def blocks(page: Path) -> list[tuple[str, str]]:
    """Each block of code of a page, behind the name of its file."""
    text = page.read_text("utf-8")
    return [(_FILE.findall(text[: block.start()])[-1], dedent(block[1])) for block in _BLOCK.finditer(text)]


@pytest.fixture(autouse=True)
def contributed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's files beside ours, and its entries among ours; the folder that the files are in."""
    monkeypatch.setattr("groundup.model.registry._BUILDERS", dict(_BUILDERS))
    for room, package in ROOMS.items():
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / room)])
    names: dict[str, Any] = {"Family": Family}
    modules = []
    for file, code in blocks(ENGLISH):
        if file in ENTRIES:
            for name, entry in eval(f"{{{code}}}", names).items():
                assert name not in ENTRIES[file], f"{file} has {name} already"
                monkeypatch.setitem(ENTRIES[file], name, entry)
            continue
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, "utf-8")
        if path.suffix == ".py" and not file.startswith("model/"):  # models are imported by their entry
            modules.append("groundup." + file.removesuffix(".py").replace("/", "."))
            names |= vars(importlib.import_module(modules[-1]))
    yield tmp_path
    for module in [*modules, *(known.module for known in FAMILIES.values())]:
        if module in sys.modules and str(tmp_path) in str(sys.modules[module].__file__):
            del sys.modules[module]


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(make_text(60_000), "utf-8")
    return path


def _train(folder: Path, text_file: Path, run: str, **changes: Any) -> dict[str, Any]:
    small = {
        "budget": "60steps", "data.sources": [str(text_file)], "data.holdout_bytes": 4096, "train.threads": 1,
        "train.precision": "fp32", "train.validations": 1, "tokenizer.vocabulary_size": 320, "model.width": 48,
    }  # fmt: skip
    return build(load(str(folder / "recipes" / "gcnn.toml"), small | changes), folder / run, QUIET)


def _shape(family: str, **changes: Any) -> Shape:
    numbers = {
        "num_layers": 2, "width": 32, "num_heads": 4, "num_kv_heads": 4, "head_width": 8, "feedforward_width": 48,
        "vocabulary_size": 61, "context": 24,
    }  # fmt: skip
    return Shape(family=family, **numbers | changes)


def _moved(shape: Shape) -> Any:
    """A model in which no parameter is as it starts, in evaluation mode."""
    model, generator = build_any(shape, seed=1), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return model.eval()


def test_both_languages_show_the_same_code() -> None:
    assert blocks(ENGLISH) == blocks(CHINESE)
    assert len(blocks(ENGLISH)) == 10


def test_the_family_is_trained_from_the_recipe_and_loads_again(contributed: Path, text_file: Path) -> None:
    outcome = _train(contributed, text_file, "run")
    shape = Shape(**Run(contributed / "run").read_json(contributed / "run" / "plan.json")["shape"])
    width, kernel = shape.width, shape.options["kernel"]
    layer = 2 * width + kernel * width * 2 * width + 2 * width
    counted = shape.vocabulary_size * width + shape.num_layers * layer + 2 * width
    assert (outcome["family"], outcome["parameters"]) == ("gcnn", counted)
    assert outcome["loss"] < 0.9 * outcome["baseline_loss"]
    assert outcome["bits_per_byte"] < outcome["baseline_bits_per_byte"]

    loaded = load_weights(contributed / "run")
    assert isinstance(loaded, TextModel) and sum(parameter.numel() for parameter in loaded.parameters()) == counted
    save(contributed / "again", loaded, Tokenizer.load(contributed / "run" / "model"), "")
    ids = torch.arange(40).reshape(2, 20)
    torch.testing.assert_close(load_weights(contributed / "again")(ids), loaded(ids), rtol=0, atol=0)


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_prediction_of_the_family_sees_exactly_the_last_tokens(kernel: int) -> None:
    model = _moved(_shape("gcnn", options={"kernel": kernel}))
    embedded: list[torch.Tensor] = []
    model.embedding.register_forward_hook(lambda _module, _given, out: embedded.append(out) or out)
    logits_BTV = model(torch.arange(24)[None])
    (gradient_BTD,) = torch.autograd.grad(logits_BTV[0, 12].square().sum(), embedded[0])
    reach = model.shape.num_layers * (kernel - 1)
    assert gradient_BTD[0].any(-1).tolist() == [12 - reach <= position <= 12 for position in range(24)]


def test_the_decoder_is_what_the_planner_counts_and_transformers_computes(tmp_path: Path) -> None:
    shape = _shape("mistral", num_kv_heads=2, tied=False)
    model = _moved(shape)
    assert parameters.total(shape) == sum(parameter.numel() for parameter in model.parameters())
    tokenizer = Tokenizer.train([make_text(2000)], vocabulary_size=270)
    save(tmp_path / "mistral", model, tokenizer, "")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "mistral", attn_implementation="eager")
    assert type(theirs) is transformers.MistralForCausalLM
    ids = torch.randint(61, (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model(ids), theirs(ids).logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(load_weights(tmp_path / "mistral")(ids), model(ids), rtol=0, atol=0)


def _noised(seed: int = 3) -> Objective:
    return OBJECTIVES["noised"](Setting(seed=seed, shape=_shape("gcnn"), special=SPECIAL))


def test_the_objective_exchanges_a_tenth_and_draws_by_the_number_of_a_row() -> None:
    windows = np.zeros((400, 25), np.int64)
    whole = _noised().collate(windows, 7)
    parts = [_noised().collate(windows[part], 7 + part.start) for part in (slice(0, 150), slice(150, 400))]
    assert torch.equal(whole.inputs_BT, torch.cat([part.inputs_BT for part in parts]))
    assert not torch.equal(whole.inputs_BT, _noised(seed=4).collate(windows, 7).inputs_BT)
    assert torch.equal(whole.targets, torch.zeros(400, 24, dtype=torch.int64))
    # Each of the 59 other tokens has the same chance, and the special one has none.
    counts = np.bincount(whole.inputs_BT.flatten().numpy(), minlength=61)
    assert counts[60] == 0
    expected = whole.inputs_BT.numel() * 0.1 / 60
    chi_square = float(((counts[1:60] - expected) ** 2 / expected).sum())
    assert chi_square < 98.3  # the 0.1 % quantile of 59 degrees of freedom


def test_the_objective_trains_the_family(
    contributed: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, "gcnn", replace(FAMILIES["gcnn"], objective="noised"))
    outcome = _train(contributed, text_file, "noised")
    assert outcome["loss"] < 0.95 * outcome["baseline_loss"]
    assert outcome["accuracy"] > outcome["baseline_accuracy"]
    assert "bits_per_byte" not in outcome


def test_the_optimizer_takes_the_step_of_its_formula() -> None:
    model = torch.nn.Linear(3, 2)
    before = model.weight.detach().clone()
    optimizer = build_optimizer(model, TrainRecipe(optimizer="momentum", beta1=0.5, weight_decay=0.0))
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.ones(1, 3)).sum().backward()  # a gradient of ones
        optimizer.step()
    torch.testing.assert_close(model.weight.detach(), before - 0.1 * (1 + 1.5))
