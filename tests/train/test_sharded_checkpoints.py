"""Checkpoints of several processes: real ones, which meet over gloo."""

import json
import os
import resource
import shutil
import signal
from contextlib import nullcontext
from pathlib import Path
from threading import Timer
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessException
from torch.optim import Optimizer

from groundup.errors import UserError
from groundup.model.registry import build
from groundup.objective import CAUSAL
from groundup.parallel.grid import Grid
from groundup.parallel.many import ManyDevices
from groundup.plan.cluster.layout import Layout
from groundup.recipe import ParallelRecipe, TrainRecipe
from groundup.shape import Shape
from groundup.train import sharded_checkpoints
from groundup.train.averaging import WeightAverage
from groundup.train.checkpoint_writer import CheckpointWriter
from groundup.train.checkpoints import (
    Abandoned,
    TrainState,
    damage,
    list_checkpoints,
    load_weights,
    newest_intact,
    read_loss_scale,
    restore,
    snapshot,
    write,
)
from groundup.train.optimizers import build_optimizer, set_learning_rate
from groundup.train.stored_tensors import read
from tests.parallel.processes import run

# Nothing but its heads and its feed-forward width divides evenly by 4.
SHAPE = Shape(
    family="qwen3",
    num_layers=3,
    width=30,
    num_heads=4,
    num_kv_heads=2,
    head_width=6,
    feedforward_width=44,
    vocabulary_size=18,
    context=8,
    tied=True,
)
LR = 1e-2
ON_TWO = [Layout(data=2, zero=3), Layout(tensor=2), Layout(data=2)]
ON_FOUR = [
    Layout(data=2, tensor=2, zero=2),
    Layout(data=4, zero=3, replicate=2),
    Layout(data=2, pipeline=2, zero=1),
]
PARTS = ("model", "optimizer", "average")


class Trained(NamedTuple):
    """What a step needs; alone `many` is None."""

    model: torch.nn.Module
    optimizer: Optimizer
    average: WeightAverage
    many: ManyDevices | None = None


def _trained(model: torch.nn.Module, optimizer: str, many: ManyDevices | None = None) -> Trained:
    settings = TrainRecipe(optimizer=optimizer, lr=LR)
    return Trained(model, build_optimizer(model, settings), WeightAverage(model, 0.9), many)


def _laid_out(layout: Layout, shape: Shape = SHAPE, optimizer: str = "adamw") -> Trained:
    settings = ParallelRecipe(zero=layout.zero, replicate=layout.replicate)
    causal, grid = CAUSAL, Grid(layout, "cpu")
    many = ManyDevices(shape, causal, grid, settings, seed=99, computing=nullcontext)
    return _trained(many.model, optimizer, many)


def _windows() -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng(0).integers(0, SHAPE.vocabulary_size, (4, SHAPE.context + 1))


def _step(trained: Trained, step: int) -> float:
    """Take the step; its loss."""
    if trained.many is not None:
        loss, _ = trained.many.accumulate(_windows(), 1)
    else:
        found = CAUSAL.loss(trained.model, CAUSAL.collate(_windows()))
        found.mean.backward()
        loss = float(found.mean.detach())
    set_learning_rate(trained.optimizer, LR)
    trained.optimizer.step()
    trained.optimizer.zero_grad()
    trained.average.update(step)
    return loss


def _snapshot(trained: Trained, step: int) -> Any:
    return snapshot(
        trained.model, trained.optimizer, TrainState(step), average=trained.average, loss_scale={"scale": 8.0}
    )


def _alone(folder: Path, optimizer: str = "adamw", shape: Shape = SHAPE) -> Trained:
    """One process after two steps, with its checkpoint."""
    trained = _trained(build(shape, 1), optimizer)
    for step in (1, 2):
        _step(trained, step)
    write(folder, _snapshot(trained, 2), keep=9)
    return trained


def _assert_same(found: Path, expected: Path) -> None:
    """Bit for bit, all parts; read by one process."""
    for part in PARTS:
        tensors, others = read(found, part), read(expected, part)
        assert tensors.keys() == others.keys()
        for name, tensor in tensors.items():
            assert tensor.dtype == others[name].dtype
            assert torch.equal(tensor, others[name]), name


def _pass_on(rank: int, source: Path, folders: list[Path], layouts: list[Layout], optimizer: str) -> list[Any]:
    """From layout to layout: each reads what the one before wrote, writes it again, and then takes two steps."""
    losses = []
    for folder, layout in zip(folders, layouts, strict=True):
        trained = _laid_out(layout, optimizer=optimizer)
        state = restore(source, trained.model, trained.optimizer, trained.average)
        with CheckpointWriter(folder, keep=9) as writer:
            writer.start(_snapshot(trained, state.step))
            losses.append([_step(trained, 3), _step(trained, 4)])
        source = folder / "step-2"
    return losses


def test_any_layout_reads_what_any_other_wrote(tmp_path: Path) -> None:
    """From one process over six layouts of two and of four back to one; training goes on the same in each."""
    alone = _alone(tmp_path / "alone")
    source = tmp_path / "alone" / "step-2"
    expected = [_step(alone, 3), _step(alone, 4)]
    for n, layouts in ((2, ON_TWO), (4, ON_FOUR)):
        folders = [tmp_path / f"{n}-{number}" for number in range(len(layouts))]
        for losses in run(n, _pass_on, source, folders, layouts, "adamw"):
            for found in losses:
                assert found == pytest.approx(expected, rel=1e-5)
        for folder in folders:
            assert damage(folder / "step-2") is None
            assert read_loss_scale(folder / "step-2") == {"scale": 8.0}
            _assert_same(folder / "step-2", tmp_path / "alone" / "step-2")
        source = folders[-1] / "step-2"
    again = _trained(build(SHAPE, 5), "adamw")
    assert restore(source, again.model, again.optimizer, again.average) == TrainState(2)
    write(tmp_path / "again", _snapshot(again, 2), keep=1)
    _assert_same(tmp_path / "again" / "step-2", tmp_path / "alone" / "step-2")
    assert [_step(again, 3), _step(again, 4)] == expected
    averages = read(source, "average")
    weights = load_weights(source)
    assert weights.keys() == again.model.state_dict().keys()
    assert all(torch.equal(weight, averages[name]) for name, weight in weights.items())


def _read_and_write(rank: int, sources: dict[str, Path], folder: Path) -> None:
    for optimizer, source in sources.items():
        trained = _laid_out(Layout(data=2, zero=3), optimizer=optimizer)
        state = restore(source, trained.model, trained.optimizer, trained.average)
        with CheckpointWriter(folder / optimizer, keep=1) as writer:
            writer.start(_snapshot(trained, state.step))


def test_state_of_other_optimizers(tmp_path: Path) -> None:
    """Of one momentum, of momenta for some and moments for others, of row and column sums."""
    sources = {name: tmp_path / name / "step-2" for name in ("sgd", "muon", "adafactor")}
    for name in sources:
        _alone(tmp_path / name, name)
    run(2, _read_and_write, sources, tmp_path / "two")
    for name, source in sources.items():
        _assert_same(tmp_path / "two" / name / "step-2", source)


def _write_two(rank: int, folder: Path) -> None:
    trained = _laid_out(Layout(data=2, zero=1))
    with CheckpointWriter(folder, keep=2) as writer:
        for step in (1, 2, 3):
            _step(trained, step)
            writer.start(_snapshot(trained, step))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of steps 2 and 3, the last two of three, by two processes; not to be changed."""
    folder = tmp_path_factory.mktemp("written") / "checkpoints"
    run(2, _write_two, folder)
    return folder


def test_old_ones_are_deleted_and_nothing_else_is_left(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == ["step-2", "step-3"]


def test_every_file_has_its_hash_and_a_damaged_one_is_passed_over(written: Path, tmp_path: Path) -> None:
    newest = written / "step-3"
    files = {path.relative_to(newest).as_posix() for path in newest.rglob("*") if path.is_file()}
    assert json.loads((newest / "manifest.json").read_text()).keys() == files - {"manifest.json"}
    assert len(files) == 2 + 2 * len(PARTS)
    for name in files:
        for damaged in (None, b"", b"flipped"):
            copy = Path(shutil.copytree(written, tmp_path / "copy"))
            content = bytearray((newest / name).read_bytes())
            content[len(content) // 2] ^= 1
            if damaged is None:
                (copy / "step-3" / name).unlink()
            else:
                (copy / "step-3" / name).write_bytes(damaged and content)
            warnings: list[str] = []
            assert newest_intact(copy, warnings.append) == copy / "step-2"
            assert "step-3 is damaged" in warnings[0]
            shutil.rmtree(copy)


OTHER_SHAPES = [{"width": 36}, {"num_layers": 4}, {"num_layers": 2}, {"tied": False}]


def _refusals(rank: int, checkpoint: Path) -> list[str]:
    messages = []
    for changes in OTHER_SHAPES:
        trained = _laid_out(Layout(pipeline=2), SHAPE.model_copy(update=changes))
        with pytest.raises(UserError) as error:
            restore(checkpoint, trained.model, trained.optimizer)
        messages.append(str(error.value))
    return messages


def test_what_does_not_fit_is_refused_on_all_in_one_line(written: Path) -> None:
    """Although some of the processes have only blocks that are all there."""
    first, second = run(2, _refusals, written / "step-3")
    assert first == second
    for message, name in zip(
        first, ["blocks.0.attention", "blocks.3", "blocks.2", "unembedding.weight"], strict=True
    ):
        assert message.startswith(f"{written / 'step-3'} does not fit this recipe's model: ")
        assert name in message
        assert "\n" not in message
    for changes in OTHER_SHAPES:
        alone = _trained(build(SHAPE.model_copy(update=changes)), "adamw")
        with pytest.raises(UserError, match="does not fit this recipe's model"):
            restore(written / "step-3", alone.model, alone.optimizer)


def _fail(rank: int, folder: Path) -> list[str]:
    """The second process gives up, and then finds its disk full."""
    trained, messages = _laid_out(Layout(data=2, zero=1)), []
    writer = CheckpointWriter(folder, keep=1)
    with writer:
        _step(trained, 1)
        writer.start(_snapshot(trained, 1))
    gives_up, group = rank == 1, dist.new_group()
    with pytest.raises(Abandoned):
        sharded_checkpoints.write(folder, _snapshot(trained, 2), 1, lambda: gives_up, group)
    if rank == 1:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, most))
    writer.start(_snapshot(trained, 2))
    while writer.is_writing:
        writer.raise_failure()
    with pytest.raises(UserError) as error:
        writer.wait()
    messages.append(str(error.value))
    if rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    writer.wait()
    return messages


def test_where_one_gives_up_or_has_no_room_all_end_alike(tmp_path: Path) -> None:
    (first,), (second,) = run(2, _fail, tmp_path)
    assert first == second
    assert first.startswith(f"could not save {tmp_path / 'step-2'}: ")
    assert "File too large" in first
    assert "(process 1); intact checkpoints: step-1; make room, then continue with --resume" in first
    assert "\n" not in first
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]
    assert damage(tmp_path / "step-1") is None


def _die(rank: int, folder: Path, who: int, where: str) -> None:
    """Be killed as if by `kill -9` when the second checkpoint comes to a function."""
    trained = _laid_out(Layout(data=2, zero=1))
    with CheckpointWriter(folder, keep=1) as writer:
        _step(trained, 1)
        writer.start(_snapshot(trained, 1))
        writer.wait()
        if rank == who:
            setattr(sharded_checkpoints, where, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        _step(trained, 2)
        writer.start(_snapshot(trained, 2))
        writer.wait()


@pytest.mark.parametrize(
    ("who", "where", "expected"),
    [(1, "_hashes", "step-1"), (0, "_describe", "step-1"), (0, "delete_old", "step-2")],
)
def test_a_kill_at_any_time_leaves_whole_checkpoints(tmp_path: Path, who: int, where: str, expected: str) -> None:
    with pytest.raises(ProcessException):
        run(2, _die, tmp_path, who, where)
    found = list_checkpoints(tmp_path)
    assert found[0].name == expected
    assert [damage(checkpoint) for checkpoint in found] == [None] * len(found)
    alone = _trained(build(SHAPE, 5), "adamw")
    state = restore(found[0], alone.model, alone.optimizer, alone.average)
    assert f"step-{state.step}" == expected
    with CheckpointWriter(tmp_path, keep=1):
        assert list_checkpoints(tmp_path) == found == sorted(tmp_path.iterdir(), reverse=True)


def _die_some_time(rank: int, folder: Path, who: int, seconds: float) -> None:
    """Be killed while one checkpoint is written after the other."""
    trained, step = _laid_out(Layout(data=2, zero=1)), 0
    with CheckpointWriter(folder, keep=2) as writer:
        while True:
            step += 1
            _step(trained, step)
            writer.start(_snapshot(trained, step))
            if step == 3 and rank == who:
                Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()


@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize("seconds", [0.01, 0.05, 0.13])
def test_a_kill_at_some_time(tmp_path: Path, who: int, seconds: float) -> None:
    with pytest.raises(ProcessException):
        run(2, _die_some_time, tmp_path, who, seconds)
    found = list_checkpoints(tmp_path)
    assert 2 <= len(found) <= 3
    assert [damage(checkpoint) for checkpoint in found] == [None] * len(found)
