"""What PPO, GRPO and expert iteration share: questions, a judge, rounds of answers, and held-out prompts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from groundup.clock import Clock
from groundup.data.conversations import read_prompts
from groundup.errors import UserError
from groundup.files import fingerprint
from groundup.model.decoder import Decoder
from groundup.objective import Objective
from groundup.objective.base import IGNORED
from groundup.objective.policy import PolicyBatch
from groundup.objective.statistics import Statistics
from groundup.pipeline.tuning.examples import check_unchanged, read_parts
from groundup.pipeline.tuning.finish import save_policy
from groundup.pipeline.tuning.job import TuneJob
from groundup.pipeline.tuning.lesson import outcome_of
from groundup.pipeline.tuning.limits import note_of, until_too_far
from groundup.pipeline.tuning.rollout_hooks import HeldOutPrompts, RolloutHooks
from groundup.pipeline.tuning.training import Length, length_of, save_plan, train
from groundup.recipe_stages import PolicyRecipe, RolloutRecipe
from groundup.run import read_rows
from groundup.studio.rounds import write_rounds
from groundup.train import checkpoints
from groundup.train.precision import autocast
from groundup.tune.kl_control import KlControl
from groundup.tune.reference import held_bytes, log_probs_in_parts, reference_of, share_equal
from groundup.tune.rewards import ModelReward, open_reward
from groundup.tune.rollouts import Manner, Question, Rollouts, Writer, drawn, questions_of, repeated
from groundup.tune.rounds import Extent, Round, Rounds


@dataclass(frozen=True)
class Asking:
    """Who answers and who judges, and what is asked.

    `skipped` prompts left no room for an answer.
    """

    writer: Writer
    train: list[Question]
    held_out: list[Question]
    skipped: int


@dataclass(frozen=True)
class Parts(Asking):
    """A policy that is to learn, where it started, and what it learns from.

    `frozen` names what of the policy keeps its weights.
    """

    job: TuneJob
    settings: RolloutRecipe
    policy: Decoder
    reference: Decoder

    @property
    def rows_at_once(self) -> int:
        """Answers in a pass of the whole policy."""
        return self.settings.micro_batch or self.settings.batch_size

    def answers(self, number: int, group: int) -> Rollouts:
        """Those of a round: `group` to each of its questions, which are drawn from all in turn."""
        questions = drawn(self.train, number, self.settings.answers // group, self.job.seed("prompts"))
        return self.writer.write(*repeated(questions, group, self.job.seed(f"answers of round {number}")))

    def log_probs(self, model: nn.Module, rollouts: Rollouts) -> Tensor:
        """What a model thinks of each token of the answers, (N, T)."""
        job, temperature = self.job, self.settings.temperature
        with autocast(job.device, job.precision):
            return log_probs_in_parts(model, rollouts.batch, temperature, self.rows_at_once, job.device)

    def mean_kl(self, rollouts: Rollouts) -> float:
        """How far the policy is from the reference, in nats an answer, by the answers that it wrote."""
        distance_NT = self.log_probs(self.policy, rollouts) - self.log_probs(self.reference, rollouts)
        return float(distance_NT.double().sum(1).mean())

    @cached_property
    def held_out_prompts(self) -> HeldOutPrompts:
        """What the policy is measured on."""
        return HeldOutPrompts(self.writer, self.held_out, self.mean_kl, self.job.seed("held-out answers"))

    @cached_property
    def before(self) -> dict[str, Any]:
        """What the policy was measured at before it learnt anything, now or in an earlier session of the run."""
        known = self.job.of_first(next(read_rows(self.job.run.folder / "heldout.jsonl"), None))
        return known or self.held_out_prompts.write(self.job, 0, 0, self.held_out_prompts.measure())


def read_asking(job: TuneJob, clock: Clock) -> Asking:
    """Read the prompts and open the judge; the job's own model answers."""
    settings = job.settings_of(RolloutRecipe)
    assert settings.reward is not None, "checked before the run was made"
    reward = open_reward(settings.reward, job.device)
    if isinstance(reward, ModelReward):
        _warn_of_chance(job, reward)
    start, most = job.start, job.context - settings.tokens
    examples = read_parts(job, read_prompts)
    train_questions, held_out = (questions_of(part, start.tokenizer, most) for part in examples)
    skipped = sum(map(len, examples)) - len(train_questions) - len(held_out)
    job.display.say(
        f"{len(train_questions):,} prompts to answer, {len(held_out):,} held out"
        + (
            f"; left out: {skipped:,} with more than {most:,} tokens, which leave no room for an answer"
            if skipped
            else ""
        )
    )
    clock.lap("read")
    manner = Manner(settings.tokens, settings.temperature, settings.missing_end)
    kind = Writer if job.processes is None else _shared_writer()
    writer = kind(start.model.to(job.device), start.tokenizer, reward, manner)
    return Asking(writer, train_questions, held_out, skipped)


def prepare(job: TuneJob, clock: Clock) -> Parts:
    """The same, and the policy ready to learn."""
    asking = read_asking(job, clock)
    policy, reward = asking.writer.model, asking.writer.reward
    job.arranged(policy)
    reference = reference_of(policy)
    if isinstance(reward, ModelReward):
        share_equal(reward.model.body, reference)
    return Parts(
        **vars(asking),
        job=job,
        settings=job.settings_of(RolloutRecipe),
        policy=policy,
        reference=reference,
    )


def _shared_writer() -> type[Writer]:
    from groundup.pipeline.tuning.devices import SharedWriter  # a second, which one process is spared

    return SharedWriter


def _warn_of_chance(job: TuneJob, judge: ModelReward) -> None:
    low = judge.about.get("accuracy_low")
    if isinstance(low, int | float) and low <= 0.5:
        job.display.warn(
            f"the reward model is not surely better than chance (accuracy from {low:.1%}): the policy may learn "
            "nothing but its mistakes; train it on more pairs first"
        )


def extent_of(settings: RolloutRecipe, size: int, passes: float) -> Extent:
    """How long a round of `size` rows is learnt from: in so many passes; UserError if batches do not divide it."""
    batch_size = min(settings.batch_size, size)
    if size % batch_size:
        raise UserError(
            f"batch_size={settings.batch_size} does not divide the {size} answers that a round learns from; "
            f"choose one that does, such as {np.gcd(settings.batch_size, size)}"
        )
    return Extent(size, max(1, round(passes * size / batch_size)) * batch_size, batch_size)


def check_groups(settings: RolloutRecipe, group: int, name: str) -> None:
    """UserError unless the answers of a round are whole groups."""
    if settings.answers % group:
        raise UserError(
            f"answers={settings.answers} of a round are no multiple of {name}={group}, the answers to one "
            f"question; choose answers={group * max(1, settings.answers // group)}"
        )


def refuse_inexact(job: TuneJob) -> None:
    """UserError where chances computed before an update could not be found again in it."""
    if job.precision in ("bf16-weights", "fp16"):
        raise UserError(
            f"train.precision={job.precision} rounds the policy's weights, so that it finds other chances than "
            "those it wrote its answers with; choose fp32 or bf16"
        )
    if job.settings.lora_dropout:
        raise UserError(
            f"lora_dropout={job.settings.lora_dropout} makes a policy another in every pass; leave it at 0"
        )


def without_dropout(model: nn.Module) -> None:
    """Let a model compute the same in training as it did when it wrote its answers."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def steered_beta(settings: PolicyRecipe, before: Mapping[str, Any] | None) -> float:
    """The price of a nat in a round, by the figures of the one before."""
    control = KlControl.of(settings)
    if before is not None:
        control.beta = before["beta"]
        control.update(before["kl"], settings.answers)
    return control.beta


def rounds_of(parts: Parts, extent: Extent, make: Callable[[int, Mapping[str, Any] | None], Round]) -> Rounds:
    """The rounds of a run; those that no checkpoint needs any more are forgotten."""
    run = parts.job.run

    def oldest_step() -> int | None:
        kept = checkpoints.list_checkpoints(run.checkpoints)
        return checkpoints.step_of(kept[-1]) if kept else None

    folder, file = run.folder / "rollouts", run.folder / "rounds.jsonl"
    return Rounds(folder, file, extent, parts.job.seed("order"), make, oldest_step, parts.job.is_first)


def look_up(rounds: Rounds, windows: npt.NDArray[np.int64]) -> PolicyBatch:
    """The answers that rows mean, without the padding that all of them have."""
    known = {item.name for item in fields(PolicyBatch)}
    rows = {name: tensor[windows[:, 0]] for name, tensor in rounds.current.tensors.items() if name in known}
    length = int((rows["targets"] != IGNORED).any(0).nonzero().max()) + 1
    return PolicyBatch(**{name: tensor[:, :length] for name, tensor in rows.items()})


def learn(
    parts: Parts,
    model: nn.Module,
    objective: Objective,
    rounds: Rounds,
    clock: Clock,
    statistics: Statistics | None = None,
    arrange: Callable[[Decoder], nn.Module] | None = None,
) -> dict[str, Any]:
    """Let `model`, which is the policy or holds it, go through the rounds; save the policy; the outcome.

    `arrange` makes of the stage's decoder what `model` is, where that is not just the policy.
    """
    job, run = parts.job, parts.job.run
    settings, length, devices = job.train_recipe(rounds.extent.size), _length(parts, rounds), None
    if job.processes is not None:
        from groundup.pipeline.tuning.devices import SharedWriter, lay_out_job, take_trained

        assert isinstance(parts.writer, SharedWriter)
        devices = lay_out_job(job, model, objective, settings, arrange or job.arranged)
        parts.writer.trained, parts.writer.devices = model, devices
    # What is refused from here on, such as an answer by its judge, is no reason to begin anew.
    save_plan(job, model, settings, length)
    check_unchanged(
        job, *(fingerprint([question.ids for question in part]) for part in (parts.train, parts.held_out))
    )
    held_out, before = parts.held_out_prompts, parts.before
    job.display.say(f"start  {held_out.told(before)}")
    clock.lap("measure")
    state = train(
        job,
        model if devices is None else devices.trained,
        objective,
        rounds,
        settings,
        length,
        lambda bar: RolloutHooks(job, held_out, rounds, bar),
        prefetch=False,
        statistics=statistics,
        devices=devices,
    )
    if devices is not None:
        take_trained(job, model, state)
    clock.lap("train")
    rows = job.of_first(list(read_rows(run.folder / "heldout.jsonl")))
    after = next(row for row in rows if row["step"] == state.kept_step)
    figures = outcome_of(job, parts.policy, state) | {
        "judge": parts.settings.reward,
        "rounds": rounds.extent.round_of(state.step - 1) + 1,
        "prompts": len(parts.train),
        "held_out_prompts": len(parts.held_out),
        "skipped_prompts": parts.skipped,
        "before": before,
        "after": after,
        "gain": (after["reward"] - before["reward"]) / before["reward_std"] if before["reward_std"] else None,
        "memory": memory(parts, model),
        "note": note_of(parts.settings, rounds),
    }
    clock.lap("finish")
    if not job.is_first:
        return figures
    save_policy(job, parts.policy, figures)
    page = write_rounds(run, figures)
    if figures["note"]:
        job.display.warn(figures["note"])
    gain = "" if figures["gain"] is None else f", {figures['gain']:+.2f} standard deviations of the start"
    job.display.say(
        f"done: held-out reward {before['reward']:.3f} -> {after['reward']:.3f}{gain}, "
        f"{after['kl']:.2f} nats from the reference",
        style="bold",
    )
    job.display.say(f"rounds  {page}")
    return figures


def memory(parts: Parts, model: nn.Module) -> dict[str, float]:
    """The bytes of all weights that are held, each counted once, and how often the policy's these are."""
    reward = parts.writer.reward
    judge = reward.model if isinstance(reward, ModelReward) else nn.Module()
    sizes = held_bytes([parts.policy, parts.reference, judge, model])
    names = ("policy_bytes", "reference_bytes", "reward_bytes", "value_bytes")
    return {**dict(zip(names, sizes, strict=True)), "ratio": sum(sizes) / sizes[0]}


def _length(parts: Parts, rounds: Rounds) -> Length:
    """By the budget, else the rounds; and no further than the limit of the KL divergence."""
    settings, extent = parts.settings, rounds.extent
    length = Length(settings.rounds * extent.steps)
    if settings.budget is not None:
        tokens = float(np.mean([len(question.ids) for question in parts.train])) + settings.tokens
        parameters = sum(weight.numel() for weight in parts.policy.parameters())
        length = length_of(parts.job, extent.size, tokens, parameters)
    return until_too_far(length, settings, rounds)
