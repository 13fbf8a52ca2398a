"""`groundup export`: what it writes, from which checkpoint, and what it refuses."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from time import monotonic, sleep

import pytest
import torch
from safetensors.torch import load_file

import groundup as gu
from groundup.cli.main import main
from groundup.model.decoder import Decoder
from groundup.model.registry import build as build_model
from groundup.objective import CAUSAL
from groundup.parallel.grid import Grid
from groundup.parallel.many import ManyDevices
from groundup.plan.cluster.layout import Layout
from groundup.recipe import ParallelRecipe, TrainRecipe
from groundup.shape import Shape
from groundup.train.averaging import WeightAverage
from groundup.train.checkpoint_writer import CheckpointWriter
from groundup.train.checkpoints import load_weights, restore, snapshot
from groundup.train.optimizers import build_optimizer
from tests.cli.support import GROUNDUP, TINY, Result, build_whole
from tests.parallel.processes import run as run_processes

OPTIONS = [*TINY, "--set", "train.checkpoint_steps=10", "--set", "train.validations=2", "--set", "train.ema=0.9"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """A run of 24 steps, with checkpoints of 20 and 24; not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    build_whole(folder, str(text_file), *OPTIONS, "--budget", "24steps")
    return folder


@pytest.fixture(scope="module")
def going_on(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Iterator[Path]:
    """A run that does not end, with a checkpoint."""
    folder = tmp_path_factory.mktemp("going-on") / "run"
    command = [*GROUNDUP, "build", str(text_file), *OPTIONS, "--budget", "900000steps", "--out", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until = monotonic() + 60
        while not list((folder / "checkpoints").glob("step-*")):
            assert process.poll() is None
            assert monotonic() < until
            sleep(0.02)
        yield folder
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def _assert_same(found: Path, expected: Path) -> None:
    tensors, others = _weights(found), _weights(expected)
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensor, others[name]) for name, tensor in tensors.items())


def test_the_last_checkpoint_gives_the_runs_own_model(
    finished: Path, groundup: Callable[..., Result], tmp_path: Path
) -> None:
    """Which is the average of the weights."""
    answer = groundup("export", finished, "out")
    assert answer.returncode == 0, answer.stderr
    out = tmp_path / "out"
    _assert_same(out, finished / "model")
    names = {path.name for path in (finished / "model").iterdir()}
    assert {path.name for path in out.iterdir()} == names
    for name in names - {"model.safetensors", "README.md"}:
        assert (out / name).read_bytes() == (finished / "model" / name).read_bytes()
    card = (out / "README.md").read_text("utf-8")
    row = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()][-1]
    assert f"| held-out bits per byte, at step 24 | {row['val_bits_per_byte']:.4f} |" in card
    assert "trained for 24 steps" in card


@pytest.mark.parametrize("by", ["option", "folder"])
def test_an_earlier_checkpoint(
    by: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, out = finished / "checkpoints" / "step-20", str(tmp_path / "out")
    named = [str(finished), out, "--checkpoint", "20"] if by == "option" else [str(checkpoint), out]
    assert main(["export", *named, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    state = json.loads((checkpoint / "state.json").read_text())
    assert (figures["steps"], figures["tokens"], figures["averaged"]) == (20, state["tokens"], True)
    loaded = gu.load(tmp_path / "out").model
    average = load_file(checkpoint / "average.safetensors")
    assert figures["parameters"] == sum(tensor.numel() for tensor in average.values())
    assert all(torch.equal(weight, average[name]) for name, weight in loaded.state_dict().items())


def _rewrite(rank: int, checkpoint: Path, folder: Path, shape: Shape) -> None:
    layout, causal = Layout(data=2, zero=3), CAUSAL
    many = ManyDevices(shape, causal, Grid(layout, "cpu"), ParallelRecipe(zero=3), seed=9, computing=nullcontext)
    optimizer = build_optimizer(many.model, TrainRecipe(optimizer="adamw", lr=1e-3))
    average = WeightAverage(many.model, 0.9)
    state = restore(checkpoint, many.model, optimizer, average)
    with CheckpointWriter(folder, keep=1) as writer:
        writer.start(snapshot(many.model, optimizer, state, average=average))


def test_a_checkpoint_of_two_processes(finished: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "run", symlinks=True))
    shutil.rmtree(copy / "checkpoints")
    shape = Shape(**json.loads((finished / "plan.json").read_text())["shape"])
    run_processes(2, _rewrite, finished / "checkpoints" / "step-24", copy / "checkpoints", shape)
    assert len(list((copy / "checkpoints" / "step-24" / "model").iterdir())) == 2
    assert main(["export", str(copy), str(tmp_path / "out")]) == 0
    _assert_same(tmp_path / "out", finished / "model")


def test_while_the_run_is_going_on(going_on: Path, groundup: Callable[..., Result], tmp_path: Path) -> None:
    answer = groundup("export", going_on, "out", "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["steps"] % 10 == 0
    assert isinstance(gu.load(tmp_path / "out").model, Decoder)


def test_what_cannot_be_exported(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that says what is wrong, and nothing is written."""
    broken = Path(shutil.copytree(finished, tmp_path / "broken", symlinks=True))
    for step in (20, 24):
        (broken / "checkpoints" / f"step-{step}" / "model.safetensors").write_bytes(b"torn")
    none = Path(shutil.copytree(finished, tmp_path / "none", symlinks=True))
    shutil.rmtree(none / "checkpoints")
    full, out, newest = tmp_path / "full", tmp_path / "out", finished / "checkpoints" / "step-24"
    full.mkdir()
    (full / "file").write_text("mine")
    refused = {
        (full, out): "neither a run's folder nor a checkpoint",
        (tmp_path / "absent", out): "neither a run's folder nor a checkpoint",
        (broken, out): "no intact checkpoint",
        (none, out): "no intact checkpoint",
        (finished, out, "--checkpoint", "7"): "has no checkpoint 7; there: 24, 20",
        (broken, out, "--checkpoint", "20"): "step-20 is damaged (model.safetensors does not match its hash)",
        (newest, out, "--checkpoint", "20"): "is one checkpoint already",
        (finished, full): "full is there already",
        (finished, full / "file"): "file is there already",
    }
    for arguments, message in refused.items():
        assert main(["export", *map(str, arguments)]) == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("error: ")
        assert message in last
    assert not out.exists()
    assert (full / "file").read_text() == "mine"


def test_load_weights_names_what_a_model_has(finished: Path) -> None:
    shape = Shape(**json.loads((finished / "plan.json").read_text())["shape"])
    assert load_weights(finished / "checkpoints" / "step-24").keys() == build_model(shape).state_dict().keys()
