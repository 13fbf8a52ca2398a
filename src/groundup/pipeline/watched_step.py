"""A training step of one process of many, watched: what its tensors take, for what, and what it sends."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import _init_optim_state
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor._sharding_prop import ShardingPropagator

from groundup.objective import Objective
from groundup.parallel.many import ManyDevices
from groundup.parallel.traffic import Collective, Traffic
from groundup.plan.hardware import Precision
from groundup.recipe import TrainRecipe
from groundup.train.memory import Category, Timeline, Tracker
from groundup.train.step import TrainStep


@dataclass(frozen=True)
class StepOfOne:
    """What one process did in one step.

    Bytes of its tensors by category: `standing` between two steps; `ready` when the gradients are complete and the
    update has not begun; and over time. `traffic` is what it sent.
    """

    standing: dict[Category, int]
    ready: dict[Category, int]
    timeline: Timeline
    traffic: list[Collective]

    @property
    def at_peak(self) -> dict[Category, int]:
        """The bytes by category when their sum is greatest."""
        moment = self.timeline.total.argmax()
        return {category: int(values[moment]) for category, values in self.timeline.bytes.items()}


class WatchedStep(TrainStep):
    """A step on many devices that a tracker of tensors looks at, and one of what is sent.

    Blocks must not be compiled, since operators inside compiled code cannot be seen. PyTorch's FSDPMemTracker
    (torch.distributed._tools) knows FSDP2 alone; here all that is around a model is seen by what it does.
    """

    devices: ManyDevices

    def __init__(
        self,
        objective: Objective,
        settings: TrainRecipe,
        *,
        precision: Precision,
        device: str,
        devices: ManyDevices,
    ):
        super().__init__(devices.model, objective, settings, precision=precision, device=device, devices=devices)
        _init_optim_state(self.optimizer)  # it is there from the second step on
        self._tracker = Tracker(torch.device(device))
        self._ready: dict[Category, int] = {}
        for module in devices.computing:
            module.register_forward_pre_hook(self._begins)
            module.register_forward_hook(self._ends)

    def watched(self, windows: npt.NDArray[np.int64]) -> StepOfOne:
        """Take a step and say what was seen."""
        self._tracker = tracker = Tracker(torch.device(self.device))
        with Traffic(self.devices.grid) as traffic, tracker, _unseen_propagation(tracker):
            tracker.note("weights", self.model.parameters())
            tracker.note("other", self.model.buffers())
            tracker.note("optimizer", self._states())
            self(windows, 1e-6)
            tracker.note("optimizer", self._states())
        return StepOfOne(tracker.living(), self._ready, tracker.timeline(), traffic.records)

    def accumulate(self, windows: npt.NDArray[np.int64], first: int = 0) -> tuple[float, int]:
        """Forward and backward; what follows is the update."""
        made = super().accumulate(windows, first)
        self._note_gradients()
        self._ready = self._tracker.living()
        self._tracker.phase = "update"
        return made

    def _begins(self, _module: nn.Module, _inputs: Any) -> None:
        self._note_gradients()
        self._pass = self._tracker.loss()
        self._pass.__enter__()

    def _ends(self, _module: nn.Module, _inputs: Any, _output: Any) -> None:
        self._pass.__exit__(None, None, None)

    def _note_gradients(self) -> None:
        """Those that are there now, also those that FSDP keeps whole until the last micro-batch."""
        gradients = [parameter.grad for parameter in self.model.parameters()]
        gradients += _whole_gradients(self.devices.computing)
        self._tracker.note("gradients", [gradient for gradient in gradients if gradient is not None])

    def _states(self) -> list[Tensor]:
        states = cast(dict[Any, dict[str, Any]], self.optimizer.state)
        return [value for state in states.values() for value in state.values() if isinstance(value, Tensor)]


@contextmanager
def _unseen_propagation(tracker: Tracker) -> Iterator[None]:
    """DTensor asks for the shape of a result with whole fake tensors, which no device has: let them pass.

    It does so under a lock that PyTorch lets tests set.
    """
    before = ShardingPropagator._fake_mode_lock
    ShardingPropagator._fake_mode_lock = _LookingAway(tracker)  # type: ignore[assignment]
    try:
        yield
    finally:
        ShardingPropagator._fake_mode_lock = before


class _LookingAway:
    def __init__(self, tracker: Tracker):
        self._tracker = tracker

    def __enter__(self) -> None:
        self._tracker.looks = False

    def __exit__(self, *_error: object) -> None:
        self._tracker.looks = True


def _whole_gradients(modules: Sequence[nn.Module]) -> Iterator[Tensor | None]:
    for module in modules:
        for part in module.modules():
            if isinstance(part, FSDPModule):
                for group in part._get_fsdp_state()._fsdp_param_groups:
                    for parameter in group.fsdp_params:
                        yield parameter.unsharded_accumulated_grad
                        yield getattr(getattr(parameter, "_unsharded_param", None), "grad", None)
