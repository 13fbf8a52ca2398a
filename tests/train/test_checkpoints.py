import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from groundup.errors import UserError
from groundup.model.decoder import Decoder
from groundup.model.registry import build
from groundup.recipe import TrainRecipe
from groundup.train.checkpoints import (
    TrainState,
    clear_unfinished,
    damage,
    list_checkpoints,
    newest_intact,
    read_state,
    restore,
    snapshot,
    write,
)
from groundup.train.optimizers import build_optimizer, set_learning_rate

from .conftest import SHAPE

FILES = ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]


def _trained(seed: int) -> tuple[Decoder, torch.optim.Optimizer]:
    """A model and optimizer after a step."""
    model = build(SHAPE, seed)
    optimizer = build_optimizer(model, TrainRecipe(optimizer="adamw", lr=1e-2))
    set_learning_rate(optimizer, 1e-2)
    model(torch.arange(12)[None]).square().sum().backward()
    optimizer.step()
    return model, optimizer


def _bytes(model: Decoder, optimizer: torch.optim.Optimizer) -> list[bytes]:
    """Weights and moments, in the order of the parameters."""
    tensors = list(model.parameters())
    for parameter in model.parameters():
        tensors += [optimizer.state[parameter][name] for name in ("exp_avg", "exp_avg_sq", "step")]
    return [tensor.detach().numpy().tobytes() for tensor in tensors]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of steps 2, 4 and 10; not to be changed."""
    folder = tmp_path_factory.mktemp("written") / "checkpoints"
    for step in (2, 4, 10):
        write(folder, snapshot(*_trained(step), TrainState(step, step * 64, step / 2)), keep=3)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(written, tmp_path / "checkpoints"))


def test_what_is_saved_is_restored_bit_for_bit(written: Path) -> None:
    model, optimizer = _trained(99)
    assert _bytes(model, optimizer) != _bytes(*_trained(4))
    state = restore(written / "step-4", model, optimizer)
    assert state == read_state(written / "step-4") == TrainState(4, 256, 2.0)
    assert _bytes(model, optimizer) == _bytes(*_trained(4))


def test_the_newest_come_first_by_number(written: Path) -> None:
    assert [path.name for path in list_checkpoints(written)] == ["step-10", "step-4", "step-2"]
    assert list_checkpoints(written / "absent") == []


def test_only_the_newest_are_kept(folder: Path) -> None:
    write(folder, snapshot(*_trained(1), TrainState(11)), keep=2)
    assert [path.name for path in list_checkpoints(folder)] == ["step-11", "step-10"]
    write(folder, snapshot(*_trained(1), TrainState(12)), keep=1)
    assert [path.name for path in folder.iterdir()] == ["step-12"]


def test_a_kill_while_an_old_one_is_deleted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of it does not keep its name."""
    delete = shutil.rmtree

    def stop_half_way(path: Path, ignore_errors: bool = False) -> None:
        if (path / "manifest.json").exists():
            (path / "manifest.json").unlink()
            raise KeyboardInterrupt
        delete(path, ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", stop_half_way)
    with pytest.raises(KeyboardInterrupt):
        write(folder, snapshot(*_trained(1), TrainState(11)), keep=3)
    monkeypatch.undo()
    assert [path.name for path in list_checkpoints(folder)] == ["step-11", "step-10", "step-4"]
    clear_unfinished(folder)
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("keep", [1, 2])
def test_what_is_just_written_stays_below_damaged_ones(folder: Path, keep: int) -> None:
    """After going on from step 2, since 4 and 10 are damaged."""
    for step in (4, 10):
        (folder / f"step-{step}" / "model.safetensors").write_bytes(b"")
    write(folder, snapshot(*_trained(1), TrainState(3)), keep)
    newest = newest_intact(folder, warn=lambda _: None)
    assert newest is not None
    assert newest.name == "step-3"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["truncated", "longer", "flipped", "absent", "empty"])
def test_a_damaged_checkpoint_is_named_and_passed_over(folder: Path, name: str, how: str) -> None:
    file = folder / "step-10" / name
    content = file.read_bytes()
    middle = len(content) // 2
    if how == "absent":
        file.unlink()
    else:
        damaged = {
            "truncated": content[:-1],
            "longer": content + b"x",
            "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "empty": b"",
        }
        if how == "truncated" and name == "manifest.json":
            damaged["truncated"] = content[:-3]  # more than its last line break, which JSON can do without
        file.write_bytes(damaged[how])
    warnings: list[str] = []
    found = newest_intact(folder, warnings.append)
    assert found is not None
    assert found.name == "step-4"
    assert len(warnings) == 1
    assert "step-10 is damaged" in warnings[0]
    assert "\n" not in warnings[0]


def test_without_any_intact_one_there_is_none(folder: Path) -> None:
    for step in (2, 4, 10):
        (folder / f"step-{step}" / "state.json").unlink()
    warnings: list[str] = []
    assert newest_intact(folder, warnings.append) is None
    assert [warning.split()[1] for warning in warnings] == ["step-10", "step-4", "step-2"]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(FILES))
def test_no_flipped_bit_goes_unseen(data: st.DataObject, name: str, written: Path, tmp_path: Path) -> None:
    """In the manifest a bit may change white space alone; then what it says is unchanged."""
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(written / "step-2", copy)
    content = bytearray((copy / name).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (copy / name).write_bytes(content)
    if damage(copy) is None:
        assert name == "manifest.json"
        assert json.loads(content) == json.loads((written / "step-2" / name).read_bytes())


def test_a_checkpoint_half_written_is_not_seen(folder: Path) -> None:
    """What a killed process leaves behind has another name."""
    (folder / ".step-20.123.tmp").mkdir()
    (folder / "step-old").mkdir()
    assert [path.name for path in list_checkpoints(folder)] == ["step-10", "step-4", "step-2"]


def test_another_models_checkpoint_is_refused(written: Path) -> None:
    for changes in ({"width": 48}, {"num_layers": 3}, {"tied": False}):
        model = build(SHAPE.model_copy(update=changes))
        optimizer = build_optimizer(model, TrainRecipe(optimizer="adamw", lr=1e-2))
        with pytest.raises(UserError, match="does not fit this recipe's model") as error:
            restore(written / "step-4", model, optimizer)
        assert "\n" not in str(error.value)


def test_missing_moments_are_refused(folder: Path) -> None:
    file = folder / "step-4" / "optimizer.safetensors"
    moments = {name: tensor for name, tensor in load_file(file).items() if "embedding" not in name}
    save_file(moments, file)
    model = build(SHAPE)
    optimizer = build_optimizer(model, TrainRecipe(optimizer="adamw", lr=1e-2))
    with pytest.raises(UserError):
        restore(folder / "step-4", model, optimizer)


_FILL_THE_DISK = """
import resource, sys
from pathlib import Path
from groundup.errors import UserError
from groundup.model.registry import build
from groundup.recipe import TrainRecipe
from groundup.shape import Shape
from groundup.train.checkpoints import TrainState, snapshot, write
from groundup.train.optimizers import build_optimizer

folder, limits = Path(sys.argv[1]), [int(limit) for limit in sys.argv[3:]]
model = build(Shape.model_validate_json(sys.argv[2]))
optimizer = build_optimizer(model, TrainRecipe(optimizer="adamw", lr=1e-2))
model(model.embedding.weight.new_zeros(1, 4).long()).sum().backward()
optimizer.step()
write(folder, snapshot(model, optimizer, TrainState(1)), keep=1)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
for limit in limits:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    try:
        write(folder, snapshot(model, optimizer, TrainState(2)), keep=1)
    except UserError as error:
        print(error)
"""


def test_a_full_disk_leaves_the_checkpoint_before(written: Path, tmp_path: Path) -> None:
    """Nothing can be written; a part of the weights; the weights but not the moments."""
    folder, weights = tmp_path / "checkpoints", (written / "step-2" / "model.safetensors").stat().st_size
    limits = [0, weights // 2, weights + 1]
    answer = subprocess.run(
        [sys.executable, "-c", _FILL_THE_DISK, str(folder), SHAPE.model_dump_json(), *map(str, limits)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    messages = answer.stdout.splitlines()
    assert len(messages) == len(limits)
    for message in messages:
        assert message.startswith(f"could not save {folder / 'step-2'}: ")
        assert "intact checkpoints: step-1; make room, then continue with --resume" in message
    assert [path.name for path in folder.iterdir()] == ["step-1"]
    assert damage(folder / "step-1") is None
