"""Checkpoints: weights, optimizer state and place in the run, written so that a crash cannot lose both.

A checkpoint is a folder `step-N` of safetensors files and a `state.json`, with a manifest of SHA-256 hashes.
It appears under its name only when complete; one that does not match its manifest is never used.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from groundup.errors import UserError
from groundup.files import folder_atomically, sha256, write_json


@dataclass(frozen=True)
class TrainState:
    """Where a run stands: steps taken, tokens seen, seconds of training."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0


def save(folder: Path, model: nn.Module, optimizer: Optimizer, state: TrainState, keep: int) -> Path:
    """Write `folder/step-N`, then delete all but the newest `keep` checkpoints.

    When the disk is full (or the like) it raises UserError, and the checkpoints before this one stay.
    """
    target = folder / f"step-{state.step}"
    try:
        with folder_atomically(target) as temporary:
            save_file(_contiguous(model.state_dict()), temporary / "model.safetensors")
            save_file(_contiguous(_optimizer_tensors(model, optimizer)), temporary / "optimizer.safetensors")
            write_json(temporary / "state.json", asdict(state))
            hashes = {path.name: sha256(path) for path in sorted(temporary.iterdir())}
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


def restore(checkpoint: Path, model: nn.Module, optimizer: Optimizer) -> TrainState:
    """Load weights and optimizer state in place; every tensor must be there and fit."""
    try:
        model.load_state_dict(load_file(checkpoint / "model.safetensors"))
        _load_optimizer(model, optimizer, load_file(checkpoint / "optimizer.safetensors"))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{checkpoint} does not fit this recipe's model: {reason}; start anew with another --out"
        ) from None
    return read_state(checkpoint)


def read_state(checkpoint: Path) -> TrainState:
    """Where the run stood at a checkpoint."""
    return TrainState(**json.loads((checkpoint / "state.json").read_text("utf-8")))


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


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
