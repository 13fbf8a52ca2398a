"""Adapter folders: what a model learnt beside its frozen weights, written and read as the package peft does."""

from pathlib import Path
from typing import Any

from groundup.errors import UserError
from groundup.files import folder_atomically, write_json
from groundup.interop.adapters import CONFIG_FILE, WEIGHTS_FILE, Adapters, LowRank, to_config, to_tensors
from groundup.interop.decoder_names import TABLES
from groundup.model.adapter_folder import adapter_base, attach, is_adapter
from groundup.model.decoder import Decoder
from groundup.model.folder import LoadedModel, load, model_folder, save_companions
from groundup.model.lora import LoraLinear, has_adapters
from groundup.model.tensor_file import save_tensors
from groundup.model.vocabulary import TokenRows
from groundup.tokenizer import Tokenizer


def save_adapter(
    folder: Path,
    model: Decoder,
    tokenizer: Tokenizer,
    base: str,
    card: str,
    sampling: dict[str, Any] | None = None,
) -> None:
    """Write a model's adapters alone, with the tokenizer files and README.md (the card).

    `base` is where the model is that they belong to, as `adapter_base` finds it again; peft reads it where that is
    a Hugging Face folder. `sampling` as for `model.folder.save`. New tokens' rows are peft's
    `trainable_token_indices`, which `AutoPeftModelForCausalLM` finds a place for by the tokenizer's size.
    """
    assert has_adapters(model), "there is nothing to save without adapters"
    adapters = adapters_of(model)
    with folder_atomically(folder) as temporary:
        write_json(temporary / CONFIG_FILE, to_config(model.shape, adapters, base))
        tensors = to_tensors(model.shape, adapters)
        save_tensors(tensors, temporary / WEIGHTS_FILE, metadata={"format": "pt"})
        save_companions(temporary, model, tokenizer, card, sampling)


def load_adapter(folder: Path, merge: bool = False) -> LoadedModel:
    """The base with its adapters attached, in evaluation mode, and the adapters' tokenizer.

    With `merge` they are written into its weights. UserError as for `model.folder.load`, and where there are no
    adapters.
    """
    folder = model_folder(Path(folder))
    if not is_adapter(folder):
        raise UserError(f"{folder} holds a whole model and no adapter; name a folder with {CONFIG_FILE}")
    if merge:
        return load(folder)
    loaded = load(adapter_base(folder))
    attach(loaded.model, folder)
    has_own = (folder / "tokenizer.json").is_file()
    return LoadedModel(loaded.model.eval(), Tokenizer.load(folder) if has_own else loaded.tokenizer)


def adapters_of(model: Decoder) -> Adapters:
    """What was learnt, on the CPU."""
    beside = {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}
    tables = {name: table for name in TABLES if isinstance(table := getattr(model, name), TokenRows)}
    one = next(iter(beside.values()))
    return Adapters(
        low_rank={
            name: LowRank(module.lora_A.weight.detach().cpu(), module.lora_B.weight.detach().cpu(), module.alpha)
            for name, module in beside.items()
        },
        rows={name: table.rows.detach().cpu() for name, table in tables.items()},
        ids=next(iter(tables.values())).ids.tolist() if tables else [],
        dropout=getattr(one.dropout, "p", 0.0),
    )
