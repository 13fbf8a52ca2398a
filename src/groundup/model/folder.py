"""Model folders: ordinary Hugging Face folders, written and read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from groundup.errors import UserError
from groundup.files import folder_atomically, write_atomically, write_json
from groundup.interop.config import to_config
from groundup.interop.huggingface import from_tensors, to_tensors
from groundup.interop.stored import read_shape, weight_files
from groundup.model.decoder import Decoder
from groundup.model.registry import assemble
from groundup.tokenizer import Tokenizer


@dataclass(frozen=True)
class LoadedModel:
    """What `groundup.load` gives: `.model` maps ids (B, T) to logits (B, T, V), `.tokenizer` text to ids."""

    model: Decoder
    tokenizer: Tokenizer


def save(folder: Path, model: Decoder, tokenizer: Tokenizer, card: str, sampling: dict[str, Any]) -> None:
    """Write config.json, model.safetensors, tokenizer files, generation_config.json and README.md (the card)."""
    shape = model.shape
    with folder_atomically(folder) as temporary:
        write_json(temporary / "config.json", to_config(shape, tokenizer.end_of_text))
        tensors = to_tensors(shape, {name: value.cpu() for name, value in model.state_dict().items()})
        save_file(tensors, temporary / "model.safetensors", metadata={"format": "pt"})
        tokenizer.save(temporary, model_max_length=shape.context)
        write_json(
            temporary / "generation_config.json",
            {"bos_token_id": tokenizer.end_of_text, "eos_token_id": tokenizer.end_of_text, "do_sample": True}
            | sampling,
        )
        write_atomically(temporary / "README.md", card)


def load(folder: Path | str) -> LoadedModel:
    """Read a model folder, or a run's folder that holds one in `model/`; the model is in evaluation mode.

    UserError names what is missing. Every tensor must be known and present: nothing is loaded half.
    """
    folder = _model_folder(Path(folder))
    shape = read_shape(folder)
    model = assemble(shape)
    model.to_empty(device="cpu")
    if model.rotary is not None:
        model.rotary.fill()
    state = from_tensors(shape, _read_tensors(folder))
    expected = set(model.state_dict())
    if expected != set(state):
        missing, unexpected = sorted(expected - set(state)), sorted(set(state) - expected)
        raise UserError(f"{folder} does not fit its config.json: missing {missing}, not expected {unexpected}")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{folder} does not fit its config.json: {str(error).splitlines()[-1].strip()}") from None
    return LoadedModel(model.eval(), Tokenizer.load(folder))


def _model_folder(folder: Path) -> Path:
    for candidate in (folder, folder / "model"):
        if (candidate / "config.json").is_file():
            return candidate
    if (folder / "recipe.toml").is_file():
        raise UserError(
            f"the run in {folder} has no model yet; finish it with `groundup build --resume --out {folder}`"
        )
    raise UserError(f"{folder} is neither a run nor a model folder (no config.json); `groundup build` makes one")


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
        try:
            tensors |= load_file(file)
        except (OSError, SafetensorError) as error:
            raise UserError(f"cannot read {file}: {error}; export the model again") from None
    return tensors
