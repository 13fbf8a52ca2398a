"""Checkpoints: weights, optimizer state and place in the run, written so that a crash cannot lose both.

A checkpoint is a folder `step-N` of safetensors files and a `state.json`, with a manifest of SHA-256 hashes.
It appears under its name only when complete; one that does not match its manifest is never used. What goes into it
is copied first (`snapshot`), so that it can be written while training goes on (`checkpoint_writer`).
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from groundup.errors import UserError
from groundup.files import folder_atomically, sha256, write_json
from groundup.train.averaging import WeightAverage


@dataclass(frozen=True)
class TrainState:
    """Where a run stands: steps taken, tokens seen, seconds of training, windows seen, validations behind it.

    The other seconds are those of training in which the next step waited: for its batch, for checkpoints, for
    held-out text to be measured and samples to be written.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    windows: int = 0
    validations: int = 0
    data_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    evaluation_seconds: float = 0.0


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint holds: tensors by file and name, on the CPU, that training does not touch any more."""

    state: TrainState
    tensors: dict[str, dict[str, Tensor]]
    loss_scale: dict[str, Any]


class Abandoned(Exception):
    """A checkpoint was given up half-way."""


def snapshot(
    model: nn.Module,
    optimizer: Optimizer,
    state: TrainState,
    *,
    average: WeightAverage | None = None,
    loss_scale: dict[str, Any] | None = None,
) -> Snapshot:
    """A copy of all that a checkpoint holds: as many bytes as weights, optimizer's state and average together."""
    tensors = {"model": model.state_dict(), "optimizer": _optimizer_tensors(model, optimizer)}
    if average is not None:
        tensors["average"] = average.tensors()
    copies = {file: {name: _copy(tensor) for name, tensor in part.items()} for file, part in tensors.items()}
    return Snapshot(state, copies, loss_scale or {})


def write(folder: Path, contents: Snapshot, keep: int, is_abandoned: Callable[[], bool] = lambda: False) -> Path:
    """Write `folder/step-N`, then delete all but the newest `keep` checkpoints.

    When the disk is full (or the like) it raises UserError, and the checkpoints before this one stay. Asked
    between the files, `is_abandoned` may have it end with `Abandoned` and leave nothing behind.
    """
    state = contents.state
    target = folder / f"step-{state.step}"
    try:
        with folder_atomically(target) as temporary:
            for name, tensors in contents.tensors.items():
                save_file(tensors, temporary / f"{name}.safetensors")
                _give_up_if(is_abandoned())
            write_json(temporary / "state.json", asdict(state) | {"loss_scale": contents.loss_scale})
            hashes: dict[str, str] = {}
            for path in sorted(temporary.iterdir()):
                hashes[path.name] = sha256(path)
                _give_up_if(is_abandoned())
            write_json(temporary / "manifest.json", hashes)
    except (OSError, SafetensorError) as error:
        kept = ", ".join(path.name for path in list_checkpoints(folder)) or "none"
        raise UserError(
            f"could not save {target}: {error}; intact checkpoints: {kept}; make room, then continue with --resume"
        ) from None
    # Newer ones are damaged, or training would not have gone on from before them: they do not count.
    not_newer = [checkpoint for checkpoint in list_checkpoints(folder) if _step(checkpoint) <= state.step]
    for old in not_newer[keep:]:
        shutil.rmtree(old)
    return target


def clear_unfinished(folder: Path) -> None:
    """Delete what a process that was killed while it wrote a checkpoint has left."""
    for left in folder.glob(".step-*"):
        shutil.rmtree(left, ignore_errors=True)


def _give_up_if(abandoned: bool) -> None:
    if abandoned:
        raise Abandoned


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a run's folder, newest first."""
    found = [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdigit()]
    return sorted(found, key=_step, reverse=True)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None if every part matches its hash."""
    try:
        hashes: dict[str, str] = json.loads((checkpoint / "manifest.json").read_text("utf-8"))
    except (OSError, ValueError):
        return "manifest.json is missing or unreadable"
    for name, expected in hashes.items():
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
        if sha256(checkpoint / name) != expected:
            return f"{name} does not match its hash"
    return None


def newest_intact(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is whole; damaged ones are named to `warn` and passed over."""
    for checkpoint in list_checkpoints(folder):
        problem = damage(checkpoint)
        if problem is None:
            return checkpoint
        warn(f"checkpoint {checkpoint.name} is damaged ({problem}); trying the one before it")
    return None


def restore(
    checkpoint: Path, model: nn.Module, optimizer: Optimizer, average: WeightAverage | None = None
) -> TrainState:
    """Load weights, optimizer state and average in place; every tensor must be there and fit."""
    try:
        model.load_state_dict(load_file(checkpoint / "model.safetensors"))
        _load_optimizer(model, optimizer, load_file(checkpoint / "optimizer.safetensors"))
        if average is not None:
            average.load(load_file(checkpoint / "average.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{checkpoint} does not fit this recipe's model: {reason}; start anew with another --out"
        ) from None
    return read_state(checkpoint)


def read_state(checkpoint: Path) -> TrainState:
    """Where the run stood at a checkpoint."""
    values = _read_state(checkpoint)
    missing = [field.name for field in fields(TrainState) if field.name not in values]
    if missing:
        raise UserError(
            f"{checkpoint} was written by another version of groundup: its state has no '{missing[0]}'; "
            "continue with that version, or start anew with another --out"
        )
    return TrainState(**{field.name: values[field.name] for field in fields(TrainState)})


def read_loss_scale(checkpoint: Path) -> dict[str, Any]:
    """What float16 has found for the scale of its loss; empty for other precisions."""
    scale: dict[str, Any] = _read_state(checkpoint)["loss_scale"]
    return scale


def _read_state(checkpoint: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((checkpoint / "state.json").read_text("utf-8"))
    return values


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _optimizer_tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by parameter name: `embedding.weight/exp_avg`, ..."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _load_optimizer(model: nn.Module, optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = dict(model.named_parameters())
    if tensors and (missing := parameters.keys() - {name.rpartition("/")[0] for name in tensors}):
        raise RuntimeError(f"the optimizer's state of {min(missing)} is missing")
    for full_name, value in tensors.items():
        name, _, key = full_name.rpartition("/")
        parameter = parameters[name]
        # AdamW counts its steps in a float32 on the CPU, or beside the parameter when fused on a GPU.
        optimizer.state[parameter][key] = value.to(parameter.device) if value.dim() else value.clone()
