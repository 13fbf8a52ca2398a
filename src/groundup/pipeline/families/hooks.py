"""What happens beside the training of a family: held-out rows are asked about, a bar moves."""

from torch import nn

from groundup.evaluate.rows import evaluate_rows
from groundup.pipeline.display import TrainingBar
from groundup.pipeline.families.job import FamilyJob
from groundup.pipeline.families.rows import MOST_VALIDATED
from groundup.pipeline.numbers import human
from groundup.pipeline.pace import Pace
from groundup.train.checkpoints import TrainState
from groundup.train.trainer import StepReport, Validation


class FamilyHooks:
    """The trainer's hooks: `validate`, `on_step` and `on_validation`."""

    def __init__(self, job: FamilyJob, bar: TrainingBar):
        self._job, self._bar = job, bar
        self._pace = Pace()

    def validate(self, model: nn.Module) -> Validation:
        """The loss of held-out rows, and the share of right answers."""
        job = self._job
        found = evaluate_rows(
            model,
            job.asking,
            job.rows.held_out[:MOST_VALIDATED],
            device=job.hardware.device,
            precision=job.plan.precision,
        )
        return Validation(found.loss, accuracy=found.accuracy)

    def on_step(self, report: StepReport) -> None:
        """Move the bar."""
        figures = f"loss {self._pace.smooth(report.loss):.3f}  {human(report.tokens_per_second)} targets/s"
        self._bar.show(report.fraction, figures, self._pace.seconds_left(report.fraction))

    def on_validation(self, model: nn.Module, state: TrainState, validation: Validation, last: bool) -> None:
        """Say the figures."""
        del model, last
        right = "" if validation.accuracy is None else f", {validation.accuracy:.1%} right"
        self._job.display.say(
            f"step {state.step:,}  {state.seconds:.0f} s  held-out: loss {validation.loss:.3f}{right}"
        )
