"""The trainer's loop over a small set of labelled rows, in epochs, each measured at its end."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from groundup.evaluate.rows import evaluate_rows
from groundup.objective import Objective
from groundup.recipe import TrainRecipe
from groundup.train.checkpoints import TrainState
from groundup.train.metrics import MetricsWriter
from groundup.train.progress import StepProgress
from groundup.train.trainer import Interrupted, StepReport, Trainer, Validation

_ROWS_AT_ONCE = 64
_NEVER = 1 << 31


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to: the mean loss of its steps, and the figures of the held-out examples."""

    number: int
    loss: float
    valid_loss: float
    valid_accuracy: float


class FewRows(Protocol):
    """Rows that fit the memory, such as `LabelledRows` and `PairRows`."""

    @property
    def num_rows(self) -> int:
        """Those of an epoch."""
        ...

    @property
    def in_order(self) -> npt.NDArray[np.int64]:
        """Each once."""
        ...

    def windows(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Rows [first, first + count) of an endless order."""
        ...


OnProgress: TypeAlias = Callable[[float, Sequence[Epoch]], None]
"""Told the share done and the epochs behind it, after each step."""


@dataclass(frozen=True)
class Task:
    """What is trained, on what, and what it is measured on; where, and the seed of its dropout."""

    model: nn.Module
    objective: Objective
    train: FewRows
    valid: FewRows
    device: str
    seed: int


@dataclass(frozen=True)
class Trained:
    """The epochs behind it, how many parameters moved, and the signal that stopped it before its time, if any."""

    history: list[Epoch]
    trained_parameters: int
    signal: int | None


def run_epochs(
    task: Task, recipe: TrainRecipe, count: int, patience: int | None, on_progress: OnProgress | None = None
) -> Trained:
    """Let the trainer go `count` times through the rows.

    With `patience` it ends after so many epochs in a row without a better held-out accuracy, and the model gets
    the weights of the best one. Ctrl-C ends it too.
    """
    assert recipe.batch_size is not None
    epochs = _Epochs(task, recipe.batch_size, count, patience, on_progress)
    with tempfile.TemporaryDirectory(prefix="groundup-") as place:
        folder = Path(place)
        with MetricsWriter(folder / "metrics.jsonl") as metrics:
            trainer = Trainer(
                task.model,
                task.objective,
                task.train,
                recipe.model_copy(update={"validations": 1, "checkpoint_steps": _NEVER}),
                precision="fp32",
                device=task.device,
                checkpoint_folder=folder / "checkpoints",
                metrics=metrics,
                hooks=epochs,
                seed=task.seed,
            )
            signal = None
            try:
                trainer.train(epochs)
            except Interrupted as interrupted:
                signal = interrupted.signal
    epochs.keep_best()
    moved = sum(parameter.numel() for parameter in trainer.take_step.optimizer.state)
    return Trained(epochs.history, moved, signal)


@torch.no_grad()
def answers(task: Task) -> npt.NDArray[np.int64]:
    """The class that the model, in evaluation mode, gives to each held-out example, (N,)."""
    rows, given = task.valid.in_order, []
    task.model.eval()
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        batch = task.objective.collate(rows[first : first + _ROWS_AT_ONCE]).to(task.device)
        given.append(task.model(batch.inputs).argmax(-1).cpu().numpy())
    return np.concatenate(given)


class _Epochs(StepProgress):
    """The trainer's progress and hooks: it measures where an epoch ends, and may end early."""

    def __init__(
        self, task: Task, batch_size: int, count: int, patience: int | None, on_progress: OnProgress | None
    ):
        per_epoch = task.train.num_rows / batch_size
        self._ends = {int(np.ceil((epoch + 1) * per_epoch)): epoch + 1 for epoch in range(count)}
        super().__init__(steps=max(self._ends))
        self._task, self._patience, self._on_progress = task, patience, on_progress
        self._losses: list[float] = []
        self._best: dict[str, Tensor] = {}
        self.history: list[Epoch] = []

    def finished(self, step: int) -> bool:
        """Whether all epochs are over, or so many in a row brought nothing."""
        return super().finished(step) or self._is_stuck()

    def on_step(self, report: StepReport) -> None:
        """Measure if an epoch ends here."""
        self._losses.append(report.loss)
        if number := self._ends.get(report.state.step):
            self._measure(number)
        if self._on_progress:
            self._on_progress(report.state.step / self.steps, self.history)

    def validate(self, model: nn.Module) -> Validation:
        """What was measured at the end of the last epoch."""
        del model
        return Validation(self.history[-1].valid_loss, accuracy=self.history[-1].valid_accuracy)

    def on_validation(self, model: nn.Module, state: TrainState, validation: Validation, last: bool) -> None:
        """Nothing: epochs are told as they end."""

    def keep_best(self) -> None:
        """Give the model the weights of the best epoch, where there was a choice."""
        self._task.model.load_state_dict(self._best, strict=False)

    def _measure(self, number: int) -> None:
        task = self._task
        found = evaluate_rows(
            task.model, task.objective, task.valid.in_order, device=task.device, precision="fp32"
        )
        assert found.accuracy is not None, "labels are right or wrong"
        best = max((epoch.valid_accuracy for epoch in self.history), default=-1.0)
        if self._patience is not None and found.accuracy > best:
            moving = ((name, weight) for name, weight in task.model.named_parameters() if weight.requires_grad)
            self._best = {name: weight.detach().clone() for name, weight in moving}
        self.history.append(Epoch(number, float(np.mean(self._losses)), found.loss, found.accuracy))
        self._losses.clear()

    def _is_stuck(self) -> bool:
        """Whether the last epochs, as many as the patience allows, were no better than the best before them."""
        patience, accuracies = self._patience, [epoch.valid_accuracy for epoch in self.history]
        if patience is None or len(accuracies) <= patience:
            return False
        return max(accuracies[-patience:]) <= max(accuracies[:-patience])
