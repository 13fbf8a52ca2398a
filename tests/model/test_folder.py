import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import groundup
from groundup.errors import UserError
from groundup.model.folder import load, save
from groundup.tokenizer import Tokenizer

from .conftest import MakeModel, MakeShape


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["to be or not to be"], vocabulary_size=257)


@pytest.fixture(scope="module")
def written(
    make_shape: MakeShape, make_random: MakeModel, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model folder; not to be changed."""
    folder = tmp_path_factory.mktemp("written") / "model"
    save(folder, make_random(make_shape("qwen3")), tokenizer, "# A card\n", {"temperature": 0.7})
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(written, tmp_path / "model"))


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_saved_is_loaded(
    family: str, tied: bool, make_shape: MakeShape, make_random: MakeModel, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = make_random(make_shape(family, tied=tied))
    save(tmp_path / "model", model, tokenizer, "card", {})
    loaded = load(tmp_path / "model")
    assert loaded.model.shape == model.shape
    assert loaded.tokenizer == tokenizer
    assert not loaded.model.training
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.equal(loaded.model(ids), model(ids))


def test_the_folder_is_complete(written: Path) -> None:
    names = {path.name for path in written.iterdir()}
    assert names == {
        *("README.md", "config.json", "generation_config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json"),
    }
    assert (written / "README.md").read_text() == "# A card\n"
    assert json.loads((written / "generation_config.json").read_text())["temperature"] == 0.7


def test_a_runs_folder_gives_its_model(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path / "run" / "model")
    assert groundup.load(tmp_path / "run").model.shape == load(str(written)).model.shape


def test_a_failed_save_leaves_the_model_before_it(
    folder: Path, make_shape: MakeShape, make_random: MakeModel, tokenizer: Tokenizer
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(TypeError):
        save(folder, make_random(make_shape("llama")), tokenizer, "card", {"not": object()})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def _load_error(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        load(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    assert "no config.json" in _load_error(tmp_path)
    assert "no config.json" in _load_error(tmp_path / "absent")
    (tmp_path / "recipe.toml").touch()
    assert "has no model yet" in _load_error(tmp_path)
    assert f"--resume --out {tmp_path}" in _load_error(tmp_path)


def test_missing_and_unexpected_tensors_are_named(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(32)
    del tensors["model.norm.weight"]
    save_file(tensors, file)
    message = _load_error(folder)
    assert "missing ['norm.weight']" in message
    assert "not expected ['blocks.0.attention.query.bias']" in message


def test_a_tensor_of_the_wrong_shape_is_named(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file) | {"model.norm.weight": torch.ones(31)}
    save_file(tensors, file)
    assert "norm.weight" in _load_error(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "absent", "not text"])
def test_damaged_files_are_named_in_one_line(folder: Path, name: str, damage: str) -> None:
    file = folder / name
    content = file.read_bytes()
    if damage == "absent":
        file.unlink()
    else:
        file.write_bytes(
            {"truncated": content[: len(content) // 2], "empty": b"", "not text": b"\xff\x00"}[damage]
        )
    assert name in _load_error(folder)


@pytest.mark.parametrize(
    "content",
    [
        {"num_hidden_layers": 1.5},
        {"num_hidden_layers": 0},
        {"head_dim": None, "num_attention_heads": 0},
        {"head_dim": None, "num_attention_heads": "4"},
        {"num_key_value_heads": 3},
    ],
)  # fmt: skip
def test_impossible_numbers_in_the_config_are_told_in_one_line(folder: Path, content: dict[str, object]) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | content))
    assert _load_error(folder)


def test_a_config_that_is_no_object_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("[]")
    assert "config.json" in _load_error(folder)


@pytest.mark.parametrize("index", ["{", "{}"])
def test_a_damaged_index_is_refused(folder: Path, index: str) -> None:
    (folder / "model.safetensors.index.json").write_text(index)
    assert "model.safetensors.index.json" in _load_error(folder)


def test_a_missing_part_of_the_weights_is_named(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00001-of-00002.safetensors" in _load_error(folder)
