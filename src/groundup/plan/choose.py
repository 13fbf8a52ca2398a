"""The choice: which model to train on how many tokens, so that the budget buys the lowest expected loss."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from groundup.errors import UserError
from groundup.plan.budget import Budget
from groundup.plan.candidates import (
    batch_tokens_for,
    context_for,
    ladder,
    learning_rate_for,
    vocabulary_for,
)
from groundup.plan.flops import train_flops_per_token
from groundup.plan.hardware import Hardware
from groundup.plan.loss import SMALL_RUNS, LossLaw, effective_tokens
from groundup.plan.memory import train_bytes
from groundup.plan.parameters import non_embedding, total
from groundup.plan.speed import step_seconds
from groundup.recipe import Recipe
from groundup.shape import Shape

# Training must leave room for the system and for the data that the kernel caches.
_MEMORY_SHARE = 0.6
_FEWEST_STEPS = 20


@dataclass(frozen=True)
class Corpus:
    """What a plan needs to know of the text: bytes to train on, bytes a token, and how hard it is."""

    train_bytes: float
    bytes_per_token: float
    compressibility: float | None = None

    @property
    def tokens(self) -> float:
        """Tokens of text that are there once."""
        return self.train_bytes / self.bytes_per_token


@dataclass(frozen=True)
class Plan:
    """What to train, and what to expect of it. Times in seconds, memory in bytes."""

    shape: Shape
    parameters: int
    non_embedding_parameters: int
    precision: str
    batch_size: int
    micro_batch: int
    lr: float
    steps: int
    tokens: int
    epochs: float
    flops: float
    train_seconds: float
    tokens_per_second: float
    peak_bytes: int
    bits_per_byte: float
    bits_per_byte_low: float
    bits_per_byte_high: float
    law: str

    def as_json(self) -> dict[str, Any]:
        """Plain values for `plan.json`."""
        return {**asdict(self), "shape": self.shape.model_dump()}


def choose_vocabulary(recipe: Recipe, budget: Budget, hardware: Hardware, corpus_bytes: float) -> int:
    """The vocabulary for a budget; the tokenizer is trained before the rest can be planned."""
    if recipe.tokenizer.vocabulary_size is not None:
        return recipe.tokenizer.vocabulary_size
    return vocabulary_for(roughly_affordable_tokens(budget, hardware), corpus_bytes)


def roughly_affordable_tokens(budget: Budget, hardware: Hardware) -> float:
    """Within a factor of about two, the tokens that a good choice would train on."""
    if budget.kind == "tokens":
        return budget.amount
    if budget.kind == "steps":
        return budget.amount * _batch_tokens_for_steps(budget.amount)
    flops = budget.amount * (0.15 * hardware.flops(hardware.precision) if budget.kind == "seconds" else 1.0)
    # At the optimum of small runs tokens and parameters are about 4 to 1: C = 6 N D = 1.5 D^2.
    return float((flops / 1.5) ** 0.5)


def choose(
    recipe: Recipe,
    budget: Budget,
    hardware: Hardware,
    corpus: Corpus,
    vocabulary_size: int,
    *,
    measured_step_seconds: Callable[[Shape, int], float] | None = None,
    law: LossLaw = SMALL_RUNS,
) -> Plan:
    """The plan with the lowest expected loss that fits the budget and the memory.

    `measured_step_seconds(shape, batch_size)` replaces the speed formula by a measurement. UserError if nothing
    fits.
    """
    context = context_for(roughly_affordable_tokens(budget, hardware))
    shapes = ladder(recipe.model, vocabulary_size, context)
    if budget.kind in {"tokens", "steps"}:
        shapes = [_compute_optimal(shapes, _given_tokens(budget), law)]
    plans = [
        plan
        for shape in shapes
        if (plan := _plan(recipe, budget, hardware, corpus, shape, measured_step_seconds, law)) is not None
    ]
    if not plans:
        raise UserError(
            f"the budget of {budget.amount:g} {budget.kind} is too small to take {_FEWEST_STEPS} steps of the smallest "
            "model in the memory of this machine; give a larger --budget or fix fewer model.* fields"
        )
    return min(plans, key=lambda plan: plan.bits_per_byte)


def _plan(
    recipe: Recipe,
    budget: Budget,
    hardware: Hardware,
    corpus: Corpus,
    shape: Shape,
    measured: Callable[[Shape, int], float] | None,
    law: LossLaw,
) -> Plan | None:
    """The plan for one shape, or None where it does not fit."""
    train = recipe.train
    precision = hardware.precision if train.precision == "auto" else train.precision
    batch_size = train.batch_size or _batch_size(shape, budget, hardware, precision)
    seconds_a_step = (
        measured(shape, batch_size) if measured else step_seconds(shape, batch_size, hardware, precision)
    )
    step_tokens = batch_size * shape.context
    steps = int(_affordable_steps(budget, shape, step_tokens, seconds_a_step))
    micro_batch = train.micro_batch or _micro_batch(shape, batch_size, precision, hardware.memory_bytes)
    if steps < _FEWEST_STEPS and budget.kind == "seconds":
        return None
    if micro_batch is None:
        return None
    tokens = max(1, steps) * step_tokens
    size = non_embedding(shape)
    expected = law.bits_per_byte(size, effective_tokens(tokens, corpus.tokens), corpus.compressibility)
    return Plan(
        shape=shape,
        parameters=total(shape),
        non_embedding_parameters=size,
        precision=precision,
        batch_size=batch_size,
        micro_batch=micro_batch,
        lr=train.lr or learning_rate_for(size, tokens),
        steps=max(1, steps),
        tokens=tokens,
        epochs=tokens / corpus.tokens,
        flops=tokens * train_flops_per_token(shape),
        train_seconds=max(1, steps) * seconds_a_step,
        tokens_per_second=step_tokens / seconds_a_step,
        peak_bytes=train_bytes(shape, micro_batch, precision),
        bits_per_byte=expected,
        bits_per_byte_low=expected * (1 - law.relative_error),
        bits_per_byte_high=expected * (1 + law.relative_error),
        law=law.origin,
    )


def _affordable_steps(budget: Budget, shape: Shape, step_tokens: int, seconds_a_step: float) -> float:
    match budget.kind:
        case "seconds":
            return budget.amount / seconds_a_step
        case "flops":
            return budget.amount / (step_tokens * train_flops_per_token(shape))
        case "tokens":
            return budget.amount / step_tokens
        case "steps":
            return budget.amount


def _batch_size(shape: Shape, budget: Budget, hardware: Hardware, precision: str) -> int:
    """Sequences a step by the batch rule, where tokens and batch depend on each other: iterate to agreement."""
    tokens = batch_size = 0.0
    for _ in range(8):
        batch_size = max(1.0, batch_tokens_for(max(tokens, 1e5)) / shape.context)
        step_tokens = batch_size * shape.context
        seconds = step_seconds(shape, round(batch_size), hardware, precision)
        tokens = _affordable_steps(budget, shape, round(step_tokens), seconds) * step_tokens
    # A power of two keeps neighbouring plans comparable and divides evenly into micro-batches.
    return int(2 ** max(0, round(_log2(batch_size))))


def _log2(value: float) -> float:
    import math

    return math.log2(value)


def _micro_batch(shape: Shape, batch_size: int, precision: str, memory_bytes: int) -> int | None:
    """The largest part of the batch that fits the memory; None if not even one sequence does."""
    micro_batch = batch_size
    while train_bytes(shape, micro_batch, precision) > _MEMORY_SHARE * memory_bytes:
        if micro_batch == 1:
            return None
        micro_batch //= 2
    return micro_batch


def _given_tokens(budget: Budget) -> float:
    if budget.kind == "steps":
        return budget.amount * _batch_tokens_for_steps(budget.amount)
    return budget.amount


def _batch_tokens_for_steps(steps: float) -> float:
    """The batch rule solved for a number of steps: B = f(S B), by iteration."""
    batch = 1024.0
    for _ in range(20):
        batch = batch_tokens_for(steps * batch)
    return batch


def _compute_optimal(shapes: list[Shape], tokens: float, law: LossLaw) -> Shape:
    """The largest shape for which `tokens` is not less than its compute-optimal share.

    With tokens given and time not, a larger model always lowers the loss; this is where the computation would be
    better spent on more tokens instead.
    """
    fitting = [
        shape
        for shape in shapes
        if shape == _best_for_flops(shapes, tokens * train_flops_per_token(shape), law)
    ]
    return fitting[-1] if fitting else shapes[0]


def _best_for_flops(shapes: list[Shape], flops: float, law: LossLaw) -> Shape:
    return min(shapes, key=lambda shape: law.bits_per_byte(non_embedding(shape), flops / train_flops_per_token(shape)))
