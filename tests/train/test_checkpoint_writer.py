import threading
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from groundup.errors import UserError
from groundup.model.registry import build
from groundup.recipe import TrainRecipe
from groundup.train import checkpoints
from groundup.train.averaging import WeightAverage
from groundup.train.checkpoint_writer import CheckpointWriter
from groundup.train.checkpoints import Abandoned, Snapshot, TrainState, damage, list_checkpoints, snapshot, write
from groundup.train.optimizers import build_optimizer

from .conftest import SHAPE


def _snapshot(step: int) -> Snapshot:
    model = build(SHAPE, step)
    return snapshot(model, build_optimizer(model, TrainRecipe(lr=1e-2)), TrainState(step))


def _moments(model: nn.Module, optimizer: Optimizer) -> dict[tuple[str, str], torch.Tensor]:
    states = ((name, optimizer.state[weight]) for name, weight in model.named_parameters())
    return {(name, key): value for name, state in states for key, value in state.items()}


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """The next writes stand still, when their tensors are written, until this is set."""
    event, hash_file = threading.Event(), checkpoints.sha256

    def wait_and_hash(path: Path) -> str:
        event.wait(10)
        return hash_file(path)

    monkeypatch.setattr(checkpoints, "sha256", wait_and_hash)
    return event


def _names(folder: Path) -> list[str]:
    return [path.name for path in list_checkpoints(folder)]


def test_training_goes_on_while_it_writes(tmp_path: Path, held: threading.Event) -> None:
    """What the weights become meanwhile does not reach the checkpoint; it is seen only when complete."""
    model = build(SHAPE, 1)
    optimizer = build_optimizer(model, TrainRecipe(lr=1e-2))
    average = WeightAverage(model, 0.9)
    model(torch.arange(12)[None]).sum().backward()
    optimizer.step()
    average.update(1)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    moments = {key: value.clone() for key, value in _moments(model, optimizer).items()}
    with CheckpointWriter(tmp_path, keep=2) as writer:
        writer.start(snapshot(model, optimizer, TrainState(1), average=average))
        assert writer.is_writing
        for _ in range(3):
            optimizer.step()
            average.update(2)
        assert _names(tmp_path) == []
        held.set()
        writer.wait()
        assert not writer.is_writing
    assert damage(tmp_path / "step-1") is None
    other, restored = build(SHAPE, 2), WeightAverage(build(SHAPE, 2), 0.9)
    other_optimizer = build_optimizer(other, TrainRecipe(lr=1e-2))
    checkpoints.restore(tmp_path / "step-1", other, other_optimizer, restored)
    for name, weight in other.state_dict().items():
        assert torch.equal(weight, before[name])
        assert torch.equal(restored.tensors()[name], before[name])
    found = _moments(other, other_optimizer)
    assert found.keys() == moments.keys()
    assert all(torch.equal(found[key], moments[key]) for key in moments)


def test_one_write_waits_for_the_one_before(tmp_path: Path) -> None:
    with CheckpointWriter(tmp_path, keep=2) as writer:
        for step in range(1, 6):
            writer.start(_snapshot(step))
            assert step == 1 or damage(tmp_path / f"step-{step - 1}") is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-4", "step-5"]


def test_leaving_waits_for_the_write_under_way(tmp_path: Path) -> None:
    with pytest.raises(MemoryError), CheckpointWriter(tmp_path, keep=2) as writer:
        writer.start(_snapshot(1))
        raise MemoryError
    assert damage(tmp_path / "step-1") is None


def test_ctrl_c_gives_a_write_up_and_leaves_nothing_behind(tmp_path: Path, held: threading.Event) -> None:
    held.set()
    write(tmp_path, _snapshot(1), keep=1)
    held.clear()
    with pytest.raises(KeyboardInterrupt), CheckpointWriter(tmp_path, keep=1) as writer:
        writer.start(_snapshot(2))
        threading.Timer(0.05, held.set).start()
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]
    assert damage(tmp_path / "step-1") is None


def test_a_write_can_be_given_up_between_its_files(tmp_path: Path) -> None:
    asked: list[bool] = []

    def after(number: int) -> bool:
        asked.append(True)
        return len(asked) > number

    for number in range(3):
        asked.clear()
        with pytest.raises(Abandoned):
            write(tmp_path, _snapshot(1), 1, lambda number=number: after(number))
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["raise_failure", "wait", "start", "leave"])
def test_a_failure_is_told_once_at_the_next_occasion(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "checkpoints"
    folder.write_text("in the way")
    writer = CheckpointWriter(folder, keep=1)
    with pytest.raises(UserError, match=r"could not save .*step-1: .*; make room, then continue") as error, writer:
        writer.start(_snapshot(1))
        while writer.is_writing:
            pass
        if how == "start":
            writer.start(_snapshot(2))
        elif how != "leave":
            getattr(writer, how)()
    assert "\n" not in str(error.value)
    writer.wait()


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".step-7.123.tmp").mkdir()
    (tmp_path / ".step-7.123.tmp" / "model.safetensors").write_bytes(b"torn")
    write(tmp_path, _snapshot(6), keep=2)
    with CheckpointWriter(tmp_path, keep=2):
        assert [path.name for path in tmp_path.iterdir()] == ["step-6"]
