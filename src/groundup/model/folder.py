"""Model folders: ordinary Hugging Face folders, written and read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from groundup.errors import UserError
from groundup.files import folder_atomically, write_atomically, write_json
from groundup.interop.formats import format_of
from groundup.interop.gguf import GgufFile
from groundup.interop.stored import read_shape, weight_files
from groundup.model.adapter_folder import adapter_base, attach, is_adapter
from groundup.model.base import Model, TextModel, fill_tables
from groundup.model.decoder import Decoder
from groundup.model.lora import merge_adapters
from groundup.model.registry import assemble_any
from groundup.model.tensor_file import save_tensors
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.load import AnyTokenizer, load_tokenizer


@dataclass(frozen=True)
class Loaded:
    """A model of any family that reads text, in evaluation mode, and its tokenizer."""

    model: TextModel
    tokenizer: AnyTokenizer


@dataclass(frozen=True)
class LoadedModel:
    """What `groundup.load` gives: `.model` maps ids (B, T) to logits (B, T, V), `.tokenizer` text to ids."""

    model: Decoder
    tokenizer: Tokenizer


def save(
    folder: Path, model: Model, tokenizer: AnyTokenizer | None, card: str, sampling: dict[str, Any] | None = None
) -> None:
    """Write config.json, model.safetensors, tokenizer files, and README.md (the card).

    A model that reads no text has no tokenizer; for one that writes text token by token, how it samples stands in
    generation_config.json.
    """
    with folder_atomically(folder) as temporary:
        save_weights(temporary, model, tokenizer.special_tokens if tokenizer else {})
        save_companions(temporary, model, tokenizer, card, sampling)


def save_companions(
    folder: Path, model: Model, tokenizer: AnyTokenizer | None, card: str, sampling: dict[str, Any] | None
) -> None:
    """Write what stands beside the weights; arguments as for `save`."""
    if tokenizer is not None:
        tokenizer.save(folder, model_max_length=model.shape.context)
    if tokenizer is not None and sampling is not None:
        end = {"bos_token_id": tokenizer.end_of_text, "eos_token_id": tokenizer.end_of_text}
        write_json(folder / "generation_config.json", end | {"do_sample": True} | sampling)
    write_atomically(folder / "README.md", card)


def save_weights(folder: Path, model: Model, special: Mapping[str, int]) -> None:
    """Write config.json and model.safetensors, in the form in which others know the family."""
    written = format_of(model.shape.family)
    write_json(folder / "config.json", written.to_config(model.shape, special))
    state = {name: value.cpu() for name, value in model.state_dict().items()}
    tensors = written.to_tensors(model.shape, state)
    save_tensors(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def load(folder: Path | str) -> LoadedModel:
    """Read a decoder's folder, or a run's folder that holds one in `model/`; the model is in evaluation mode.

    Of a folder of adapters it is the model that they belong to, with the adapters in its weights; a .gguf file is
    read as well. UserError names what is missing, and says where the model is no decoder. Every tensor must be
    known and there: nothing is loaded half.
    """
    folder = model_folder(Path(folder))
    model, read_tokenizer = _read(folder)
    if not isinstance(model, Decoder):
        raise UserError(
            f"{folder} holds a model of the family {model.shape.family}, which does not write text token by "
            "token; `groundup families` says what it is good for"
        )
    tokenizer = read_tokenizer()
    if not isinstance(tokenizer, Tokenizer):
        raise UserError(f"the tokenizer of {folder} is not byte-level BPE, which a model that writes needs")
    return LoadedModel(model, tokenizer)


def load_any(folder: Path | str) -> Loaded:
    """As `load`, of any family that reads text; UserError also for a tokenizer that is another model's."""
    folder = model_folder(Path(folder))
    model, read_tokenizer = _read(folder)
    if not isinstance(model, TextModel):
        raise UserError(f"{folder} holds a {model.shape.family}, which does not read text; choose another")
    loaded = Loaded(model, read_tokenizer())
    # Special tokens are often added behind those that the model was made for, and never read.
    most, size = loaded.model.shape.vocabulary_size, loaded.tokenizer.vocabulary_size
    special = set(loaded.tokenizer.special_tokens.values())
    if any(number not in special for number in range(most, size)):
        raise UserError(
            f"{folder}: the tokenizer has {size:,} tokens, but the model only {most:,}; put the "
            "tokenizer there that it was trained with"
        )
    return loaded


def load_weights(folder: Path | str) -> Model:
    """The model alone, of any family; errors as for `load`."""
    return _read(model_folder(Path(folder)))[0]


def has_tokenizer(folder: Path) -> bool:
    """Whether the model of `load_weights` has a tokenizer with it, for `load_any`."""
    folder = model_folder(folder)
    return folder.is_file() or is_adapter(folder) or (folder / "tokenizer.json").is_file()


def model_folder(folder: Path) -> Path:
    """The folder itself, or `model/` in a run's, or a .gguf file; UserError where there is no model."""
    if folder.suffix == ".gguf" and not folder.is_dir():
        if not folder.is_file():
            raise UserError(f"{folder} is not there; name a .gguf file, or a run's or a model's folder")
        return folder
    for candidate in (folder, folder / "model"):
        if (candidate / "config.json").is_file() or is_adapter(candidate):
            return candidate
    if any((candidate / "words.json").is_file() for candidate in (folder, folder / "model")):
        raise UserError(f"{folder} holds word vectors, which `groundup neighbours` and `groundup words` read")
    if folder.parent.name == "checkpoints" and (folder / "model.safetensors").is_file():
        raise UserError(
            f"{folder} is a checkpoint and no model folder; `groundup export {folder} FOLDER` makes one"
        )
    if (folder / "recipe.toml").is_file():
        raise UserError(
            f"the run in {folder} has no model yet; finish it with `groundup build --resume --out {folder}`"
        )
    raise UserError(f"{folder} is neither a run nor a model folder (no config.json); `groundup build` makes one")


def _read(folder: Path) -> tuple[Model, Callable[[], AnyTokenizer]]:
    """The model in a place that `model_folder` gave, in evaluation mode, and what reads its tokenizer."""
    if folder.is_file():
        file = GgufFile(folder)
        return filled(folder, file.shape, file.state()), file.tokenizer
    if is_adapter(folder):
        model, read_tokenizer = _read(model_folder(adapter_base(folder)))
        attach(model, folder)
        merge_adapters(model)
        has_own = (folder / "tokenizer.json").is_file()
        return model, partial(load_tokenizer, folder) if has_own else read_tokenizer
    shape = read_shape(folder)
    state = format_of(shape.family).from_tensors(shape, read_tensors(folder))
    return filled(folder, shape, state), partial(load_tokenizer, folder)


def filled(source: Path, shape: Shape, state: dict[str, Tensor]) -> Model:
    """A model with these weights, in evaluation mode; UserError where they are not just its own."""
    model = assemble_any(shape)
    model.to_empty(device="cpu")
    fill_tables(model)
    told = "the shape that it names" if source.is_file() else "its config.json"
    expected = set(model.state_dict())
    if expected != set(state):
        missing, unexpected = sorted(expected - set(state)), sorted(set(state) - expected)
        raise UserError(f"{source} does not fit {told}: missing {missing}, not expected {unexpected}")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{source} does not fit {told}: {str(error).splitlines()[-1].strip()}") from None
    return model.eval()


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, under the names that they have there; UserError where one cannot be read."""
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
        try:
            tensors |= load_file(file)
        except (OSError, SafetensorError) as error:
            raise UserError(f"cannot read {file}: {error}; export the model again") from None
    return tensors
