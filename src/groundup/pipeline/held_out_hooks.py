"""What happens beside a training that has held-out rows: they are asked about, and a bar moves."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from torch import nn

from groundup.evaluate.rows import evaluate_rows
from groundup.objective import Objective
from groundup.pipeline.display import Display, TrainingBar
from groundup.pipeline.numbers import human
from groundup.pipeline.pace import Pace
from groundup.plan.hardware import Precision
from groundup.train.checkpoints import TrainState
from groundup.train.trainer import StepReport, Validation

if TYPE_CHECKING:
    from groundup.parallel.many import ManyDevices


class HeldOutHooks:
    """The trainer's hooks: `validate`, `on_step` and `on_validation`; `unit` is what a target is called."""

    def __init__(
        self,
        objective: Objective,
        held_out: npt.NDArray[np.int64],
        *,
        device: str,
        precision: Precision,
        display: Display,
        bar: TrainingBar,
        unit: str,
        devices: "ManyDevices | None" = None,
    ):
        self._objective, self._held_out, self._devices = objective, held_out, devices
        self._device, self._precision = device, precision
        self._display, self._bar, self._unit, self._pace = display, bar, unit, Pace()

    def validate(self, model: nn.Module) -> Validation:
        """The loss of held-out rows, and the share of right answers where one process can count them."""
        if self._devices is not None:
            loss, _ = self._devices.evaluate(self._held_out, 1)
            return Validation(loss)
        found = evaluate_rows(
            model, self._objective, self._held_out, device=self._device, precision=self._precision
        )
        return Validation(found.loss, accuracy=found.accuracy)

    def on_step(self, report: StepReport) -> None:
        """Move the bar."""
        right = f"  {report.figures['accuracy']:.0%} right" if "accuracy" in report.figures else ""
        rate = f"{human(report.tokens_per_second)} {self._unit}/s"
        figures = f"loss {self._pace.smooth(report.loss):.3f}{right}  {rate}"
        self._bar.show(report.fraction, figures, self._pace.seconds_left(report.fraction))

    def on_validation(self, model: nn.Module, state: TrainState, validation: Validation, last: bool) -> None:
        """Say the figures."""
        del model, last
        right = "" if validation.accuracy is None else f", {validation.accuracy:.1%} right"
        self._display.say(
            f"step {state.step:,}  {state.seconds:.0f} s  held-out: loss {validation.loss:.3f}{right}"
        )
