"""A folder of adapters in peft's format: what it stands on, and how it is put into that model."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from groundup.errors import UserError
from groundup.interop.adapters import CONFIG_FILE, WEIGHTS_FILE, Adapters, LowRank, from_peft, without_head
from groundup.model.base import Model
from groundup.model.decoder import Decoder
from groundup.model.lora import put_adapter
from groundup.model.vocabulary import TokenRows, grow_vocabulary, train_rows


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds adapters alone, without the model that they belong to."""
    return (folder / CONFIG_FILE).is_file() and not (folder / "config.json").is_file()


def adapter_base(folder: Path) -> Path:
    """Where the model is that the adapters belong to: seen from their folder, or else from the working directory.

    UserError where it is in neither place.
    """
    named = str(_read_config(folder).get("base_model_name_or_path"))
    for candidate in (folder / named, Path(named)):
        if candidate.exists() and not candidate.samefile(folder):
            return candidate
    raise UserError(
        f"the adapter in {folder} belongs to the model {named}, which is not there; write the model's place as "
        f"base_model_name_or_path into {folder / CONFIG_FILE}"
    )


def attach(model: Model, folder: Path, head: Tensor | None = None) -> None:
    """Put the folder's adapters into the model that they belong to, and freeze the rest of it.

    Where they were trained with a head that gives a number (task_type SEQ_CLS), its weights are put into `head`.
    UserError where they are damaged, of another model, or compute something that `LoraLinear` does not.
    """
    if not isinstance(model, Decoder):
        raise UserError(f"{folder} has adapters of a decoder, but its base is a {model.shape.family}")
    try:
        config, tensors = _read_config(folder), load_file(folder / WEIGHTS_FILE)
        if head is not None:
            config, trained = without_head(config, tensors)
            with torch.no_grad():
                head.copy_(trained.reshape(head.shape))
        adapters = from_peft(model.shape, config, tensors)
        model.requires_grad_(False)
        _put_rows(model, adapters)
        for name, part in adapters.low_rank.items():
            _put(model, name, part, adapters.dropout)
    except KeyError as error:
        raise _refusal(folder, f"{CONFIG_FILE} lacks {error}") from None
    except (ValueError, TypeError, AttributeError, RuntimeError, OSError, SafetensorError) as error:
        raise _refusal(folder, str(error)) from None


@torch.no_grad()
def _put(model: Decoder, name: str, part: LowRank, dropout: float) -> None:
    adapter = put_adapter(model, name, part.rank, part.alpha, dropout)
    for matrix, value in ((adapter.lora_A.weight, part.a_RI), (adapter.lora_B.weight, part.b_OR)):
        if matrix.shape != value.shape:
            raise ValueError(
                f"its base is another model: beside {name} stands {tuple(value.shape)}, not {tuple(matrix.shape)}"
            )
        matrix.copy_(value)


@torch.no_grad()
def _put_rows(model: Decoder, adapters: Adapters) -> None:
    if not adapters.ids:
        return
    if adapters.ids[-1] >= model.shape.vocabulary_size:
        grow_vocabulary(model, adapters.ids[-1] + 1)
    train_rows(model, adapters.ids)
    for name, value in adapters.rows.items():
        table = getattr(model, name)
        if not isinstance(table, TokenRows) or table.rows.shape != value.shape:
            raise ValueError(f"its base is another model: rows {tuple(value.shape)} do not fit its {name}")
        table.rows.copy_(value)


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
        if isinstance(content, dict):
            return content
    except (OSError, ValueError) as error:
        raise _refusal(folder, f"{CONFIG_FILE}: {error}") from None
    raise _refusal(folder, f"{CONFIG_FILE} is no JSON object")


def _refusal(folder: Path, reason: str) -> UserError:
    return UserError(f"{folder} holds no adapter that groundup reads: {' '.join(reason.split())}")
