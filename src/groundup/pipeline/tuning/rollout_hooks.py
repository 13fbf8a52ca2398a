"""What happens beside learning from one's own answers: held-out prompts are answered and judged, a bar moves."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from groundup.pipeline.display import TrainingBar
from groundup.pipeline.pace import Pace
from groundup.pipeline.tuning.job import TuneJob
from groundup.run import truncate_rows
from groundup.train.checkpoints import TrainState
from groundup.train.metrics import MetricsWriter
from groundup.train.trainer import StepReport, Validation
from groundup.tune.rollouts import Question, Rollouts, Writer, repeated
from groundup.tune.rounds import Rounds

# So many held-out prompts are answered each time: answers are dear.
_MOST_ANSWERED = 128
_NUM_SAMPLES = 2


class Measured(NamedTuple):
    """What a measurement came to, and the answers."""

    figures: dict[str, float]
    rollouts: Rollouts


@dataclass(frozen=True)
class HeldOutPrompts:
    """Prompts that nothing is learnt from, answered always with the same seed."""

    writer: Writer
    questions: list[Question]
    mean_kl: Callable[[Rollouts], float]
    seed: int

    def measure(self) -> Measured:
        """Reward, its deviation over prompts, KL in nats an answer, length and ended share; and the answers."""
        rollouts = self.writer.write(*repeated(self.questions[:_MOST_ANSWERED], 1, self.seed))
        return Measured({**rollouts.figures, "kl": self.mean_kl(rollouts)}, rollouts)

    @staticmethod
    def write(job: TuneJob, step: int, rounds: int, measured: Measured) -> dict[str, Any]:
        """Write the figures, after so many steps and rounds, and some answers; the row of figures."""
        row = {"step": step, "round": rounds, **measured.figures}
        if not job.is_first:
            return row
        _write_rows(job.run.folder / "heldout.jsonl", step, [row])
        samples = [
            {"step": step, "prompt": str(question.prompt.messages[-1]["content"]), "text": text, "reward": score}
            for question, _, text, score in measured.rollouts.items[:_NUM_SAMPLES]
        ]
        _write_rows(job.run.samples_file, step, samples)
        for sample in samples:
            job.display.sample(f"{sample['prompt']} ", f"{sample['text']} ({sample['reward']:.2f})")
        return row

    @staticmethod
    def told(row: dict[str, Any]) -> str:
        """The figures in words."""
        return (
            f"held-out: reward {row['reward']:.3f} (deviation {row['reward_std']:.3f}), {row['kl']:.2f} nats from "
            f"the reference, {row['length']:.1f} tokens, {row['ended']:.0%} ended"
        )


class RolloutHooks:
    """The trainer's hooks of a stage that learns from its own answers; the held-out loss is minus the reward."""

    def __init__(self, job: TuneJob, held_out: HeldOutPrompts, rounds: Rounds, bar: TrainingBar):
        self._job, self._held_out, self._rounds = job, held_out, rounds
        self._bar, self._pace = bar, Pace()

    def validate(self, model: nn.Module) -> Validation:
        """Answer the held-out prompts, with the policy that `model` is or holds."""
        del model
        self._measured = self._held_out.measure()
        return Validation(-self._measured.figures["reward"])

    def on_step(self, report: StepReport) -> None:
        """Move the bar."""
        row = self._rounds.current.figures
        figures = f"round {row['round'] + 1}  reward {row['reward']:.3f}"
        if "kl" in row:
            figures += f"  {row['kl']:.2f} nats"
        self._bar.show(report.fraction, figures, self._pace.seconds_left(report.fraction))

    def on_validation(self, model: nn.Module, state: TrainState, validation: Validation, last: bool) -> None:
        """Write and say the figures."""
        del model, validation, last
        rounds = self._rounds.extent.round_of(state.step - 1) + 1
        row = self._held_out.write(self._job, state.step, rounds, self._measured)
        self._job.display.say(
            f"step {state.step:,} (round {rounds})  {state.seconds:.0f} s  {self._held_out.told(row)}"
        )


def _write_rows(file: Path, step: int, rows: list[dict[str, Any]]) -> None:
    """Rows of a step in the place of those that an interrupted run has written of it and of later ones."""
    truncate_rows(file, step - 1)
    with MetricsWriter(file) as writer:
        for row in rows:
            writer.write(**row)
