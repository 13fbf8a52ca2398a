"""A reward model: which of two answers people prefer, and how sure that is."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from groundup.clock import Clock
from groundup.data.conversations import read_preferences
from groundup.evaluate.preferences import pair_margins, preference_scores
from groundup.model.decoder import Decoder
from groundup.model.folder import model_folder
from groundup.model.reward import RewardModel
from groundup.objective.bradley_terry import bradley_terry, pair_rewards
from groundup.objective.statistics import Statistics
from groundup.pipeline.tuning.examples import pair_rows, read_parts, say_rows
from groundup.pipeline.tuning.finish import stage_card
from groundup.pipeline.tuning.job import TuneJob
from groundup.pipeline.tuning.lesson import Lesson, learn
from groundup.train.precision import autocast
from groundup.tune.reward_folder import save_reward

# Of the answers of so many pairs, which the seed chooses, the mean and the deviation are taken.
_NORMALISED_ON = 256
_AT_ONCE = 16


def carry_on(job: TuneJob, clock: Clock) -> dict[str, Any]:
    """Take the run from wherever it stands to its model; the outcome."""
    train_examples, held_out_examples = read_parts(job, read_preferences)
    # Unlike a model that writes, it reads the last token too.
    rows, held_out = (pair_rows(job, part, job.context) for part in (train_examples, held_out_examples))
    say_rows(job, rows, held_out, "pairs")
    clock.lap("read")

    def arrange(decoder: Decoder) -> RewardModel:
        return RewardModel(job.arranged(decoder), job.seed("head"))

    model = arrange(job.start.model).to(job.device)
    statistics = Statistics()
    asking = bradley_terry()
    lesson = Lesson(model, arrange, bradley_terry(statistics), asking, rows, held_out, "pairs", statistics)
    figures = learn(job, lesson, clock)
    margins = pair_margins(
        model, asking, pair_rewards, held_out.in_order, device=job.device, precision=job.precision
    )
    scores = preference_scores(margins)
    _normalise(job, model, rows.windows(0, min(_NORMALISED_ON, rows.num_rows)))
    figures |= {
        "examples": len(train_examples),
        "held_out_examples": len(held_out_examples),
        "scores": scores.as_json(),
        "reward_mean": float(model.mean),
        "reward_std": float(model.std),
    }
    about = scores.as_json() | {"examples": len(train_examples), "start": figures["start"]}
    if job.is_first:
        base = str(model_folder(job.start.folder)) if job.settings.lora else None
        save_reward(job.run.model, model.cpu(), job.start.tokenizer, about, stage_card(job, figures), base)
    clock.lap("finish")
    job.display.say(
        f"done: {scores.accuracy:.1%} of {scores.pairs:,} held-out pairs right (95 % interval "
        f"{scores.accuracy_low:.1%} to {scores.accuracy_high:.1%}), loss {figures['loss']:.3f}, "
        f"calibration error {scores.calibration_error:.3f}",
        style="bold",
    )
    if scores.accuracy_low <= 0.5:
        job.display.warn("this is not surely better than chance; give more pairs before a policy learns from it")
    job.display.say(f"try     groundup ppo POLICY PROMPTS --reward {job.run.folder}")
    return figures


@torch.no_grad()
def _normalise(job: TuneJob, model: RewardModel, rows: NDArray[np.int64]) -> None:
    """Let the answers of these pairs have rewards of mean 0 and deviation 1."""
    model.eval()
    scores = []
    for first in range(0, len(rows), _AT_ONCE):
        batch = bradley_terry().collate(rows[first : first + _AT_ONCE]).to(job.device)
        with autocast(job.device, job.precision):
            scores.append(model.scores(batch.ids_B2T.flatten(0, 1), batch.targets.flatten()).float().cpu())
    model.normalise(torch.cat(scores))
