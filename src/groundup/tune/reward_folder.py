"""Reward models as ordinary folders: those of `transformers`' sequence classification with a single label."""

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundup.errors import UserError
from groundup.files import folder_atomically, write_json
from groundup.interop.adapters import CONFIG_FILE, WEIGHTS_FILE, to_config, to_tensors, with_head
from groundup.interop.formats import format_of
from groundup.interop.stored import read_shape
from groundup.model.adapter_folder import adapter_base, attach, is_adapter
from groundup.model.decoder import Decoder
from groundup.model.folder import filled, load, model_folder, read_tensors, save_companions
from groundup.model.lora import has_adapters, merge_adapters
from groundup.model.reward import RewardModel
from groundup.model.tensor_file import save_tensors
from groundup.tokenizer import Tokenizer
from groundup.tune.adapters import adapters_of

ABOUT = "reward.json"
_HEAD, _WORDS = "score.weight", "lm_head.weight"


@dataclass(frozen=True)
class LoadedReward:
    """A reward model, in evaluation mode, its tokenizer, and what `reward.json` says of it; empty without one."""

    model: RewardModel
    tokenizer: Tokenizer
    about: dict[str, Any]


def save_reward(
    folder: Path,
    model: RewardModel,
    tokenizer: Tokenizer,
    about: Mapping[str, Any],
    card: str = "",
    base: str | None = None,
) -> None:
    """Write the model as `AutoModelForSequenceClassification` reads it, its tokenizer and README.md (the card).

    Others read its scores; mean and deviation, by which they become rewards, stand in reward.json with what else
    there is to say of it: `about`. `transformers` looks for a sequence's last token before the padding, which is
    told by its id: the tokenizer's for padding, else the end of text. Adapters are written into the weights; or,
    where `base` says what model they belong to, they and the head alone, as peft writes and reads them (SEQ_CLS).
    """
    with folder_atomically(folder) as temporary:
        if base is None:
            _write_whole(temporary, model, tokenizer)
        else:
            _write_adapters(temporary, model, base)
        write_json(temporary / ABOUT, dict(about) | {"mean": float(model.mean), "std": float(model.std)})
        text = card or f"# A reward model\n\nBody: {model.shape.family}.\n"
        save_companions(temporary, model, tokenizer, text, None)


def _write_whole(folder: Path, model: RewardModel, tokenizer: Tokenizer) -> None:
    body = _merged(model.body)
    known = format_of(body.shape.family)
    config = known.to_config(body.shape, tokenizer.special_tokens)
    labels = {
        "architectures": [_classifying(name) for name in config.get("architectures", [])],
        "id2label": {"0": "reward"},
        "label2id": {"reward": 0},
        "problem_type": "regression",
        "pad_token_id": _padding(tokenizer),
    }
    state = {name: value.detach().cpu() for name, value in body.state_dict().items()}
    tensors = known.to_tensors(body.shape, state) | {_HEAD: _head_of(model)}
    write_json(folder / "config.json", config | labels)
    save_tensors(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _write_adapters(folder: Path, model: RewardModel, base: str) -> None:
    adapters = adapters_of(model.body)
    config, tensors = with_head(
        to_config(model.shape, adapters, base), to_tensors(model.shape, adapters), _head_of(model)
    )
    write_json(folder / CONFIG_FILE, config)
    save_tensors(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def _head_of(model: RewardModel) -> Tensor:
    return model.head.weight.detach().cpu().contiguous()


def load_reward(folder: Path | str, merge: bool = True) -> LoadedReward:
    """Read a reward model's folder, ours or one that `transformers` or peft wrote, or a run's that has `model/`.

    Of adapters it is the model that they belong to, with the adapters in its weights, or without `merge` beside
    them. UserError names what is missing or damaged, and where a model gives something else than one number.
    """
    folder = model_folder(Path(folder))
    if folder.is_file():
        raise UserError(f"{folder} holds words and no reward model; `groundup reward` makes one of it")
    model, tokenizer = _read_adapters(folder, merge) if is_adapter(folder) else _read_whole(folder)
    about = _read_about(folder)
    model.mean.fill_(about.get("mean", 0.0))
    model.std.fill_(about.get("std", 1.0))
    return LoadedReward(model.eval(), tokenizer, about)


def _read_whole(folder: Path) -> tuple[RewardModel, Tokenizer]:
    shape = read_shape(folder).model_copy(update={"tied": True})
    tensors = {name: tensor for name, tensor in read_tensors(folder).items() if name != _WORDS}
    if _HEAD not in tensors:
        raise UserError(f"{folder} holds no reward model (no {_HEAD}); `groundup reward` makes one of it")
    head = tensors.pop(_HEAD)
    if head.shape != (1, shape.width):
        raise UserError(
            f"{folder} gives {len(head)} numbers for a text of {shape.width} features, but a reward is one; "
            "name a model with num_labels=1"
        )
    body = filled(folder, shape, format_of(shape.family).from_tensors(shape, tensors))
    if not isinstance(body, Decoder):
        raise UserError(f"{folder} holds a {shape.family}; a reward model is made of a decoder")
    model = RewardModel(body)
    with torch.no_grad():
        model.head.weight.copy_(head)
    return model, Tokenizer.load(folder)


def _read_adapters(folder: Path, merge: bool) -> tuple[RewardModel, Tokenizer]:
    loaded = load(adapter_base(folder))
    model = RewardModel(loaded.model)
    attach(model.body, folder, model.head.weight)
    if merge:
        merge_adapters(model.body)
    has_own = (folder / "tokenizer.json").is_file()
    return model, Tokenizer.load(folder) if has_own else loaded.tokenizer


def _merged(body: Decoder) -> Decoder:
    """A body without adapters that computes the same; the given one stays as it is."""
    if not has_adapters(body):
        return body
    merged = copy.deepcopy(body)
    merge_adapters(merged)
    return merged


def _classifying(architecture: str) -> str:
    return re.sub(r"(ForCausalLM|LMHeadModel)$", "ForSequenceClassification", architecture)


def _padding(tokenizer: Tokenizer) -> int:
    role = tokenizer.usage.roles.get("pad_token")
    return tokenizer.end_of_text if role is None else tokenizer.special_tokens[role]


def _read_about(folder: Path) -> dict[str, Any]:
    file = folder / ABOUT
    if not file.is_file():
        return {}
    try:
        about = json.loads(file.read_text("utf-8"))
        if isinstance(about, dict) and all(
            isinstance(about.get(key, 0.0), int | float) for key in ("mean", "std")
        ):
            return about
        reason = "no object with the numbers mean and std"
    except (OSError, ValueError) as error:
        reason = str(error)
    raise UserError(f"cannot read {file}: {reason}; train the reward model again")
