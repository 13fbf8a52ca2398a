"""Reward models as ordinary folders: those of `transformers`' sequence classification with a single label."""

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from groundup.errors import UserError
from groundup.files import folder_atomically, write_json
from groundup.interop.formats import format_of
from groundup.interop.stored import read_shape
from groundup.model.decoder import Decoder
from groundup.model.folder import filled, model_folder, read_tensors, save_companions
from groundup.model.lora import has_adapters, merge_adapters
from groundup.model.reward import RewardModel
from groundup.tokenizer import Tokenizer

ABOUT = "reward.json"
_HEAD, _WORDS = "score.weight", "lm_head.weight"


@dataclass(frozen=True)
class LoadedReward:
    """A reward model, in evaluation mode, its tokenizer, and what `reward.json` says of it; empty without one."""

    model: RewardModel
    tokenizer: Tokenizer
    about: dict[str, Any]


def save_reward(
    folder: Path, model: RewardModel, tokenizer: Tokenizer, about: Mapping[str, Any], card: str = ""
) -> None:
    """Write the model as `AutoModelForSequenceClassification` reads it, its tokenizer and README.md (the card).

    Others read its scores; mean and deviation, by which they become rewards, stand in reward.json with what else
    there is to say of it: `about`. Adapters are written into the weights. `transformers` looks for a sequence's
    last token before the padding, which is told by its id: the tokenizer's for padding, else the end of text.
    """
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
    tensors = known.to_tensors(body.shape, state) | {_HEAD: model.head.weight.detach().cpu().contiguous()}
    with folder_atomically(folder) as temporary:
        write_json(temporary / "config.json", config | labels)
        save_file(tensors, temporary / "model.safetensors", metadata={"format": "pt"})
        write_json(temporary / ABOUT, dict(about) | {"mean": float(model.mean), "std": float(model.std)})
        save_companions(
            temporary, model, tokenizer, card or f"# A reward model\n\nBody: {body.shape.family}.\n", None
        )


def load_reward(folder: Path | str) -> LoadedReward:
    """Read a reward model's folder, ours or one that `transformers` wrote, or a run's that holds one in `model/`.

    UserError names what is missing or damaged, and where a model gives something else than one number.
    """
    folder = model_folder(Path(folder))
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
    model, about = RewardModel(body), _read_about(folder)
    with torch.no_grad():
        model.head.weight.copy_(head)
        model.mean.fill_(about.get("mean", 0.0))
        model.std.fill_(about.get("std", 1.0))
    return LoadedReward(model.eval(), Tokenizer.load(folder), about)


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
