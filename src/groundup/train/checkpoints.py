"""Checkpoints: weights, optimizer state and place in the run, written so that a crash cannot lose both.

A checkpoint is a folder `step-N` of safetensors files and a `state.json`, with a manifest of SHA-256 hashes.
It appears under its name only when complete; one that does not match its manifest is never used. What goes into it
is copied first (`snapshot`), so that it can be written while training goes on (`checkpoint_writer`).

One process writes it here, many together in `sharded_checkpoints`; any number of processes, with any layout of the
model, reads either kind.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from groundup.errors import UserError
from groundup.files import folder_atomically, sha256, write_json
from groundup.parallel.agree import agree, in_group
from groundup.parallel.processes import is_lost_connection
from groundup.train import stored_tensors
from groundup.train.averaging import WeightAverage
from groundup.train.early_stopping import Best
from groundup.train.moments import moments_of, require_moments, room_for_moments, set_moments
from groundup.train.trained import load_trained, trained_state


@dataclass(frozen=True)
class TrainState:
    """Where a run stands: steps taken, tokens seen, seconds of training, windows seen, validations behind it.

    The other seconds are those of training in which the next step waited: for its batch, for checkpoints, for
    held-out text to be measured and samples to be written. With `train.patience`, `best` is the best validation.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    windows: int = 0
    validations: int = 0
    data_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    best: Best = field(default_factory=Best)
    stopped_early: bool = False

    @property
    def kept_step(self) -> int:
        """The step after which the weights were what the run keeps: the best one, where it looks for that."""
        return self.best.step or self.step


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint holds: tensors by part and name, on the CPU, that training does not touch any more.

    Of many processes each has its own pieces: DTensors, and the plain tensors of its blocks.
    """

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
    """A copy of all that a checkpoint holds: weights that are not frozen, the optimizer's state, the average."""
    # The weights come first: FSDP, asked for them, divides again those that it has gathered.
    tensors = {"model": trained_state(model), "optimizer": moments_of(model, optimizer)}
    if average is not None:
        tensors["average"] = average.tensors()
    copies = {part: {name: _copy(tensor) for name, tensor in held.items()} for part, held in tensors.items()}
    return Snapshot(state, copies, loss_scale or {})


def write(folder: Path, contents: Snapshot, keep: int, is_abandoned: Callable[[], bool] = lambda: False) -> Path:
    """Write `folder/step-N`, then delete all but the newest `keep` checkpoints and the best one.

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
        raise saving_error(target, error) from None
    delete_old(folder, state, keep)
    return target


def saving_error(target: Path, error: Exception) -> UserError:
    """What to tell where a checkpoint could not be written."""
    kept = ", ".join(path.name for path in list_checkpoints(target.parent)) or "none"
    reason = " ".join(str(error).split())
    return UserError(
        f"could not save {target}: {reason}; intact checkpoints: {kept}; make room, then continue with --resume"
    )


def delete_old(folder: Path, state: TrainState, keep: int) -> None:
    """Delete all but the best one and the newest `keep` checkpoints up to that of `state`.

    Newer ones are damaged, or training would not have gone on from before them: they do not count.
    """
    not_newer = [checkpoint for checkpoint in list_checkpoints(folder) if step_of(checkpoint) <= state.step]
    for old in not_newer[keep:]:
        if step_of(old) == state.best.step:
            continue
        # Under another name at once: a kill must not leave half of it.
        shutil.rmtree(old.rename(old.with_name(f".{old.name}.old")))


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
    return sorted(found, key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was taken, by its name."""
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
    """Load weights, optimizer state and average in place; every tensor must be there and fit.

    Of many processes each calls it and reads what it holds; what one of them misses is told on all.
    """
    fill = _restore_pieces if in_group() else _restore_whole
    try:
        fill(checkpoint, model, optimizer, average)
    except (OSError, SafetensorError, RuntimeError) as error:
        if is_lost_connection(error):
            raise
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{checkpoint} does not fit this recipe's model: {reason}; start anew with another --out"
        ) from None
    return read_state(checkpoint)


def load_weights(checkpoint: Path) -> dict[str, Tensor]:
    """A checkpoint's whole weights by name, on the CPU: their average where there is one.

    One process reads them, whatever the layout of those that wrote them.
    """
    weights = stored_tensors.read(checkpoint, "model")
    if stored_tensors.has_part(checkpoint, "average"):
        weights |= stored_tensors.read(checkpoint, "average")
    return weights


def read_state(checkpoint: Path) -> TrainState:
    """Where the run stood at a checkpoint."""
    values = _read_state(checkpoint)
    missing = [field.name for field in fields(TrainState) if field.name not in values]
    if missing:
        raise UserError(
            f"{checkpoint} was written by another version of groundup: its state has no '{missing[0]}'; "
            "continue with that version, or start anew with another --out"
        )
    state = TrainState(**{field.name: values[field.name] for field in fields(TrainState)})
    return replace(state, best=Best(**values["best"]))


def read_loss_scale(checkpoint: Path) -> dict[str, Any]:
    """What float16 has found for the scale of its loss; empty for other precisions."""
    scale: dict[str, Any] = _read_state(checkpoint)["loss_scale"]
    return scale


def _read_state(checkpoint: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((checkpoint / "state.json").read_text("utf-8"))
    return values


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _restore_whole(
    checkpoint: Path, model: nn.Module, optimizer: Optimizer, average: WeightAverage | None
) -> None:
    """In a process that has all of the model."""
    load_trained(model, stored_tensors.read(checkpoint, "model"))
    moments = stored_tensors.read(checkpoint, "optimizer")
    require_moments(model, moments)
    set_moments(model, optimizer, moments)
    if average is not None:
        average.load(stored_tensors.read(checkpoint, "average"))


def _restore_pieces(
    checkpoint: Path, model: nn.Module, optimizer: Optimizer, average: WeightAverage | None
) -> None:
    """In each of many processes, which may have some of the blocks only, and pieces of their tensors."""
    weights = trained_state(model)  # in the parameters' own memory
    names = set[str]().union(*agree(lambda: set(weights)))

    def fill() -> None:
        _fill(checkpoint, "model", weights, names)
        stored = stored_tensors.stored(checkpoint, "optimizer")
        require_moments(model, stored)
        moments = room_for_moments(model, stored)
        stored_tensors.load(checkpoint, "optimizer", moments)
        set_moments(model, optimizer, moments)
        if average is not None:
            _fill(checkpoint, "average", average.tensors(), names)

    agree(fill)


def _fill(checkpoint: Path, part: str, tensors: dict[str, Tensor], names: set[str]) -> None:
    """Load a part in place; all processes together have tensors of these names."""
    if unknown := stored_tensors.stored(checkpoint, part).keys() - names:
        raise RuntimeError(f"the model has no {min(unknown)}")
    stored_tensors.load(checkpoint, part, tensors)
