"""One optimizer step: forward and backward over the micro-batches, clip, step."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from groundup.objective import Objective
from groundup.parallel.recompute import recompute
from groundup.plan.hardware import Precision
from groundup.plan.memory import decided_recompute
from groundup.recipe import ParallelRecipe, TrainRecipe
from groundup.seeds import derive
from groundup.shape import Shape
from groundup.train.compile import compile_blocks, compile_modules, compiler_errors, run_as_written
from groundup.train.device import synchronise
from groundup.train.optimizers import build_optimizer, set_learning_rate
from groundup.train.precision import WorkingCopy, autocast

if TYPE_CHECKING:
    from groundup.parallel.grid import Grid
    from groundup.parallel.many import ManyDevices


@dataclass(frozen=True)
class StepResult:
    """Of one step: the mean loss over its targets in nats, the gradient's norm before clipping, and the targets.

    With `may_overflow` (float16) a gradient that is not finite only says that the loss was scaled too far up: the
    optimizer leaves that step out and the scale is halved.
    """

    loss: float
    grad_norm: float
    num_targets: int
    may_overflow: bool = False

    @property
    def usable(self) -> bool:
        """Whether training can go on from it."""
        return math.isfinite(self.loss) and (math.isfinite(self.grad_norm) or self.may_overflow)


class TrainStep:
    """Everything that a step needs. Calling it with windows (B, T + 1) int64 and a learning rate takes the step.

    `model` has the weights that the optimizer moves and that are saved; with `bf16-weights` a copy of it computes.
    What is wrapped around the computing model is put on in this order: recomputation, compilation. With `devices`,
    from `lay_out`, this was done there, `model` is this process's part, and all processes take the same steps.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        settings: TrainRecipe,
        *,
        precision: Precision,
        device: str,
        devices: "ManyDevices | None" = None,
        seed: int = 0,
    ):
        self.model, self.objective, self.settings, self.devices = model, objective, settings, devices
        self.precision, self.device = precision, device
        self.optimizer = build_optimizer(model, settings)
        self.scaler = torch.amp.GradScaler(torch.device(device).type, enabled=precision == "fp16")
        self._copy = WorkingCopy(model) if precision == "bf16-weights" and devices is None else None
        self._computing = self._copy.model if self._copy else model
        self._drops, self._seed = any(isinstance(module, nn.Dropout) for module in model.modules()), seed
        if devices is None:
            recompute(self._computing, decided_recompute(settings))
            if settings.compile == "on":
                compile_blocks(self._computing, device)

    def __call__(self, windows: npt.NDArray[np.int64], lr: float, first: int = 0) -> StepResult:
        """Take a step with windows from number `first` on; if it is not usable, the weights stay as they were."""
        loss, num_targets = self.accumulate(windows, first)
        self.scaler.unscale_(self.optimizer)
        grad_norm = self._clip()
        result = StepResult(loss, grad_norm, num_targets, may_overflow=self.scaler.is_enabled())
        if result.usable:
            set_learning_rate(self.optimizer, lr)
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=self.devices is None or not self.devices.gradients_are_buckets)
        if self._copy:
            self._copy.publish_weights()
        synchronise(self.device)
        return result

    def _clip(self) -> float:
        """Shorten the gradient to the longest that is allowed; how long it was."""
        if self.devices is not None:
            return self.devices.clip(self.settings.clip)
        return float(nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip))

    def warm_up(self, windows: npt.NDArray[np.int64]) -> str | None:
        """Go forward and backward once and drop the gradients, so that no step waits for the compiler.

        Where that fails the blocks run as they are written; the reason, or None.
        """
        reason = None
        try:
            self.accumulate(windows)
        except compiler_errors() as error:
            reason = str(error).strip().partition("\n")[0]
            run_as_written(self._computing)
        self.model.zero_grad(set_to_none=True)
        return reason

    def accumulate(self, windows: npt.NDArray[np.int64], first: int = 0) -> tuple[float, int]:
        """Forward and backward over the micro-batches: the mean loss over all targets, and their number."""
        if self.devices is not None:
            return self.devices.accumulate(windows, self.settings.micro_batch, first)
        self._computing.train()
        size = self.settings.micro_batch or len(windows)
        starts = range(0, len(windows), size)
        batches = [self.objective.collate(windows[start : start + size], first + start) for start in starts]
        num_targets = sum(batch.num_targets for batch in batches)
        total = 0.0
        for start, batch in zip(starts, batches, strict=True):
            share = batch.num_targets / max(num_targets, 1)
            if self._drops:
                # What dropout leaves out follows from the windows too, so that a resumed run goes on alike.
                torch.manual_seed(derive(self._seed, f"dropout {first + start}"))
            with autocast(self.device, self.precision):
                loss = self.objective.loss(self._computing, batch.to(self.device))
            self.scaler.scale(loss.mean * share).backward()
            total += float(loss.mean.detach()) * share
            if self._copy:
                self._copy.collect_gradients()
        return total, num_targets

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep beside the weights and the optimizer's tensors."""
        return self.scaler.state_dict()

    def restored(self, state: dict[str, Any]) -> None:
        """After weights and optimizer were loaded: take the rest, and bring the computing copy up to date."""
        if state and self.scaler.is_enabled():
            self.scaler.load_state_dict(state)
        if self._copy:
            self._copy.publish_weights()


def lay_out(
    shape: Shape,
    objective: Objective,
    settings: TrainRecipe,
    parallel: ParallelRecipe,
    grid: "Grid",
    *,
    precision: Precision,
    device: str,
    seed: int,
    kind: "Callable[..., ManyDevices] | None" = None,
) -> "ManyDevices":
    """This process's part of a new model of this shape, and of every step with it; `kind` makes it."""
    from groundup.parallel.many import ManyDevices  # a second, which one device is spared

    return (kind or ManyDevices)(
        shape,
        objective,
        grid,
        parallel,
        seed=seed,
        computing=partial(autocast, device, precision),
        weights=torch.bfloat16 if precision == "bf16-weights" else None,
        recomputing=decided_recompute(settings),
        compiled=partial(compile_modules, device=device) if settings.compile == "on" else None,
    )
