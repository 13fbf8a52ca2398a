"""A synthetic language in real shards, and trainers of a tiny model on it."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from groundup.data import Batches, Shards
from groundup.model.registry import build
from groundup.objective import CAUSAL
from groundup.recipe import TrainRecipe
from groundup.run import read_rows
from groundup.shape import Shape
from groundup.train.checkpoints import TrainState
from groundup.train.metrics import MetricsWriter
from groundup.train.trainer import StepReport, Trainer, Validation

VOCABULARY, CONTEXT, BATCH = 16, 16, 4
NOISE = 0.1
STEPS = 12
_TIMES = {"seconds", "tokens_per_second"}

SHAPE = Shape(
    family="qwen3",
    num_layers=2,
    width=32,
    num_heads=2,
    num_kv_heads=1,
    head_width=16,
    feedforward_width=48,
    vocabulary_size=VOCABULARY,
    context=CONTEXT,
)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """8,000 tokens in two shards; after token t comes 5 t + 3 (mod 16), except with chance 0.1 any token."""
    random = np.random.default_rng(0)
    tokens = [0]
    for surprise, other in zip(random.random(7999) < NOISE, random.integers(0, VOCABULARY, 7999), strict=True):
        tokens.append(int(other) if surprise else (5 * tokens[-1] + 3) % VOCABULARY)
    folder = tmp_path_factory.mktemp("shards")
    described = []
    for number, part in enumerate((tokens[:5000], tokens[5000:])):
        file = folder / f"shard-{number:05d}.npy"
        np.save(file, np.array(part, np.uint16))
        sizes = {"tokens": len(part), "bytes": len(part), "file_bytes": file.stat().st_size}
        described.append({"file": file.name, "sha256": "", **sizes})
    manifest = {"dtype": "uint16", "tokens": 8000, "bytes": 8000, "shards": described}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return Shards.open(folder)


class RecordingHooks:
    """Keeps what it is told; measures on the first windows of the text; may be given something to do."""

    def __init__(self, shards: Shards, after_step: Callable[[StepReport], None] | None):
        windows = torch.from_numpy(shards.read(0, 32 * CONTEXT).astype(np.int64)).view(32, CONTEXT)
        self._inputs, self._targets = windows[:, :-1], windows[:, 1:]
        self._after_step = after_step
        self.reports: list[StepReport] = []
        self.validated: list[int] = []

    @torch.no_grad()
    def validate(self, model: nn.Module) -> Validation:
        assert not model.training
        loss = float(F.cross_entropy(model(self._inputs).flatten(0, 1), self._targets.flatten()))
        return Validation(loss, loss / math.log(2))

    def on_step(self, report: StepReport) -> None:
        self.reports.append(report)
        if self._after_step:
            self._after_step(report)

    def on_validation(self, model: nn.Module, state: TrainState, validation: Validation, last: bool) -> None:
        self.validated.append(state.step)


MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def make_trainer(shards: Shards) -> Iterator[MakeTrainer]:
    """A trainer whose metrics and checkpoints go to a folder; keywords are fields of the recipe."""
    with ExitStack() as stack:

        def make(
            folder: Path,
            *,
            after_step: Callable[[StepReport], None] | None = None,
            seed: int = 1,
            precision: str = "fp32",
            **settings: Any,
        ) -> Trainer:
            folder.mkdir(parents=True, exist_ok=True)
            metrics = stack.enter_context(MetricsWriter(folder / "metrics.jsonl"))
            return Trainer(
                build(SHAPE, seed),
                CAUSAL,
                Batches(shards, 3, CONTEXT),
                TrainRecipe(**{"lr": 1e-2, "batch_size": BATCH, "validations": 1} | settings),
                precision=precision,
                device="cpu",
                checkpoint_folder=folder / "checkpoints",
                metrics=metrics,
                hooks=RecordingHooks(shards, after_step),
            )

        yield make


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run, without what differs from one to the next."""
    rows = read_rows(folder / "metrics.jsonl")
    return [{name: value for name, value in row.items() if name not in _TIMES} for row in rows]


def steps_of(folder: Path) -> list[dict[str, Any]]:
    """Those of its steps."""
    return [row for row in metrics_of(folder) if "loss" in row]


def weights_of(trainer: Trainer) -> dict[str, bytes]:
    """A copy to compare bit for bit, NaN included."""
    return {name: value.numpy().tobytes() for name, value in trainer.model.state_dict().items()}
