"""The choice: which model to train on how many tokens, so that the budget buys the lowest expected loss."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from groundup.errors import UserError
from groundup.plan.batching import Batching, affordable_steps
from groundup.plan.budget import Budget
from groundup.plan.candidates import (
    batch_tokens_for_steps,
    context_for,
    ladder,
    learning_rate_for,
    vocabulary_for,
)
from groundup.plan.compile import Compilation
from groundup.plan.flops import train_flops_per_token
from groundup.plan.hardware import Hardware, Precision
from groundup.plan.loss import SMALL_RUNS, ExpectedLoss, effective_tokens
from groundup.plan.memory import Recompute
from groundup.plan.parallel import one_device_budget
from groundup.plan.parameters import active_non_embedding, non_embedding, total
from groundup.plan.reading import validation_tokens
from groundup.plan.speed import step_seconds
from groundup.recipe import Recipe, TrainRecipe
from groundup.shape import Shape

_FEWEST_STEPS = 20
_MOST_BYTES_PER_TOKEN = 6
_LEAST_TEXT_BYTES = 16 << 20
# How many of the best plans are measured before the choice.
_SHORTLIST = 3


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
    """What to train, and what to expect of it. Times in seconds, memory in bytes of one device."""

    shape: Shape
    parameters: int
    non_embedding_parameters: int
    precision: Precision
    compile: bool
    compile_seconds: float
    batch_size: int
    micro_batch: int
    lr: float
    steps: int
    tokens: int
    epochs: float
    flops: float
    train_seconds: float
    tokens_per_second: float
    eager_tokens_per_second: float
    peak_bytes: int
    bits_per_byte: float
    bits_per_byte_low: float
    bits_per_byte_high: float
    law: str
    recompute: Recompute = "none"
    devices: int = 1

    @property
    def law_parameters(self) -> int:
        """N as the laws are asked with it: outside embeddings, and of a mixture what a token passes through."""
        return active_non_embedding(self.shape)

    def settings(self, train: TrainRecipe) -> TrainRecipe:
        """`train` with what the plan says of how a step is taken."""
        return train.model_copy(update={"micro_batch": self.micro_batch, "recompute": self.recompute})

    def as_json(self) -> dict[str, Any]:
        """Plain values for `plan.json`."""
        return {**asdict(self), "shape": self.shape.model_dump()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The plan in a `plan.json`, whose other keys are passed over."""
        own = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        return cls(**own | {"shape": Shape(**values["shape"])})

    def resolve(self, recipe: Recipe) -> Recipe:
        """The recipe with every field that was left to the planner filled in."""
        resolved = recipe.model_copy(deep=True)
        for name in type(resolved.model).model_fields:
            setattr(resolved.model, name, getattr(self.shape, name))
        resolved.tokenizer.vocabulary_size = self.shape.vocabulary_size
        train = resolved.train
        train.batch_size, train.micro_batch, train.lr, train.precision = (
            self.batch_size,
            self.micro_batch,
            self.lr,
            self.precision,
        )
        train.compile, train.recompute = "on" if self.compile else "off", self.recompute
        if train.validation_tokens is None:
            train.validation_tokens = validation_tokens(
                self.train_seconds, self.tokens_per_second, train.validations
            )
        return resolved


def text_limit(budget: Budget, hardware: Hardware) -> int:
    """Bytes of text that are worth reading for a budget: the next power of two above what training can use.

    A power of two, so that the cache is found again although the measured speed is never quite the same.
    """
    wanted = max(roughly_affordable_tokens(budget, hardware) * _MOST_BYTES_PER_TOKEN, _LEAST_TEXT_BYTES)
    return int(2 ** math.ceil(math.log2(wanted)))


def choose_vocabulary(recipe: Recipe, budget: Budget, hardware: Hardware, corpus_bytes: float) -> int:
    """The vocabulary for a budget; the tokenizer is trained before the rest can be planned."""
    if recipe.tokenizer.vocabulary_size is not None:
        return recipe.tokenizer.vocabulary_size
    return vocabulary_for(roughly_affordable_tokens(budget, hardware), corpus_bytes)


def roughly_affordable_tokens(budget: Budget, hardware: Hardware) -> float:
    """The tokens that `choose` spends: within a factor of about two up to a day on a CPU, too many beyond."""
    if budget.kind == "tokens":
        return budget.amount
    if budget.kind == "steps":
        return budget.amount * batch_tokens_for_steps(budget.amount)
    flops = budget.amount * (0.15 * hardware.flops(hardware.precision) if budget.kind == "seconds" else 1.0)
    # Fitted to what `choose` picks on 2 cores for 2 minutes (4.8M tokens) and 28 hours (0.9G).
    return float(3.1e-4 * flops**0.775)


def choose(
    recipe: Recipe,
    budget: Budget,
    hardware: Hardware,
    corpus: Corpus,
    vocabulary_size: int,
    *,
    measured_step_seconds: Callable[[Shape, int, TrainRecipe], float] | None = None,
    compilation: Callable[[Plan], Compilation | None] | None = None,
    law: ExpectedLoss = SMALL_RUNS,
    peak_factor: float = 1.0,
    devices: int = 1,
) -> Plan:
    """The plan with the lowest expected loss among the shapes that the recipe allows and the memory holds.

    `measured_step_seconds(shape, batch_size, settings)` refines the best few by measurement; without it the
    speed formula decides. `compilation(plan)` says what compiling the chosen model would cost and save, or None
    where it is impossible; without it nothing is compiled. `peak_factor` is how much more memory runs on this
    machine took than planned. UserError if nothing fits.

    On `devices` like the one that was measured, the time of a step is that of one device's share of the batch,
    divided by the devices that work on the same sequences: what they send each other is left out.

    The law knows nothing of the context: where `context_for` makes it longer, which costs speed, slightly more
    budget can promise slightly less.
    """
    planner = _Planner(recipe, budget, hardware, corpus, law, peak_factor, devices)
    shapes = planner.shapes(vocabulary_size)
    if budget.kind in {"tokens", "steps"}:
        shapes = [_compute_optimal(shapes, _given_tokens(budget), law)]
    plans = planner.ranked(shapes)[:_SHORTLIST]
    if measured_step_seconds:
        seconds = [planner.measured(plan, measured_step_seconds) for plan in plans]
        plans = planner.ranked([plan.shape for plan in plans], seconds)
    if not plans:
        raise UserError(
            f"{budget.amount:.3g} {budget.kind} are too little for {_FEWEST_STEPS} steps of any model that the "
            "recipe allows on this machine; give a larger --budget or a smaller model"
        )
    possible = compilation(plans[0]) if compilation and recipe.train.compile != "off" else None
    return planner.compiled(plans[0], possible) if possible else plans[0]


def alternatives(
    recipe: Recipe,
    budget: Budget,
    hardware: Hardware,
    corpus: Corpus,
    vocabulary_size: int,
    law: ExpectedLoss = SMALL_RUNS,
    peak_factor: float = 1.0,
) -> list[Plan]:
    """A plan for each shape that the recipe allows and the memory holds, by formula, the lowest loss first."""
    planner = _Planner(recipe, budget, hardware, corpus, law, peak_factor)
    return planner.ranked(planner.shapes(vocabulary_size))


@dataclass(frozen=True)
class _Planner:
    """Makes the plan for one shape, all else being given."""

    recipe: Recipe
    budget: Budget
    hardware: Hardware
    corpus: Corpus
    law: ExpectedLoss
    peak_factor: float
    devices: int = 1

    @property
    def batching(self) -> Batching:
        """What decides batches and micro-batches."""
        return Batching(self.recipe, self.budget, self.hardware, self.devices)

    def shapes(self, vocabulary_size: int) -> list[Shape]:
        """The rungs of the ladder that can be laid out and fit the memory; UserError if there are none."""
        budget, batching = one_device_budget(self.budget, self.devices), self.batching
        rungs = ladder(
            self.recipe.model, vocabulary_size, context_for(roughly_affordable_tokens(budget, self.hardware))
        )
        misfits = {shape: batching.misfit(shape) for shape in rungs} if self.devices > 1 else {}
        if misfits and (misfit := next(iter(misfits.values()))) and all(misfits.values()):
            raise misfit
        shapes = [shape for shape in rungs if not misfits.get(shape) and batching.fitting(shape)]
        if not shapes:
            raise UserError(
                f"no model that the recipe allows can be trained in {batching.room:,} bytes of memory; choose a "
                "smaller model, context or train.micro_batch, or set train.memory_limit to more than this"
            )
        return shapes

    def ranked(self, shapes: Sequence[Shape], seconds_a_step: Sequence[float | None] | None = None) -> list[Plan]:
        """Plans for the shapes that the budget is enough for, the lowest expected loss first."""
        plans = map(self.plan, shapes, seconds_a_step or [None] * len(shapes))
        return sorted(filter(None, plans), key=lambda plan: plan.bits_per_byte)

    def plan(self, shape: Shape, seconds_a_step: float | None = None) -> Plan | None:
        """The plan, by the speed formula or a measured step; None where it does not fit."""
        train, batching = self.recipe.train, self.batching
        batch_size, fitting = batching.batch_size(shape), batching.fitting(shape)
        if fitting is None:
            return None
        if seconds_a_step is None:
            settings = train.model_copy(update={"recompute": fitting.recompute})
            seconds_a_step = self._shared(
                step_seconds(shape, batching.share(shape), self.hardware, batching.precision, settings)
            )
        step_tokens = batch_size * shape.context
        steps = int(affordable_steps(self.budget, shape, step_tokens, seconds_a_step))
        if steps < (1 if self.budget.kind == "steps" else _FEWEST_STEPS):
            return None
        tokens = steps * step_tokens
        size = active_non_embedding(shape)
        expected = self.law.bits_per_byte(
            size, effective_tokens(tokens, self.corpus.tokens), self.corpus.compressibility
        )
        return Plan(
            shape=shape,
            parameters=total(shape),
            non_embedding_parameters=non_embedding(shape),
            precision=batching.precision,
            compile=False,
            compile_seconds=0.0,
            batch_size=batch_size,
            micro_batch=fitting.micro_batch,
            lr=train.lr or train.lr_scale * learning_rate_for(size, step_tokens, train.optimizer),
            steps=steps,
            tokens=tokens,
            epochs=tokens / self.corpus.tokens,
            flops=tokens * train_flops_per_token(shape),
            train_seconds=steps * seconds_a_step,
            tokens_per_second=step_tokens / seconds_a_step,
            eager_tokens_per_second=step_tokens / seconds_a_step,
            peak_bytes=round(self.peak_factor * fitting.peak_bytes),
            bits_per_byte=expected,
            bits_per_byte_low=expected * (1 - self.law.relative_error),
            bits_per_byte_high=expected * (1 + self.law.relative_error),
            law=self.law.origin,
            recompute=fitting.recompute,
            devices=self.devices,
        )

    def measured(self, plan: Plan, step_seconds: Callable[[Shape, int, TrainRecipe], float]) -> float:
        """Seconds of one of the plan's steps, from those of one device's share of it."""
        settings = plan.settings(self.recipe.train)
        return self._shared(step_seconds(plan.shape, self.batching.share(plan.shape), settings))

    def _shared(self, seconds: float) -> float:
        """What one device does in `seconds`, divided among those that have the same sequences."""
        return seconds / self.batching.sizes.model

    def compiled(self, plan: Plan, compilation: Compilation) -> Plan:
        """The plan with the model compiled, where that pays or the recipe asks for it; else as it was.

        Where time is not the budget the recipe alone decides: a measurement must not change a run's numbers.
        """
        pays = self.budget.kind == "seconds" and compilation.pays(plan.train_seconds)
        if self.recipe.train.compile == "auto" and not pays:
            return plan
        recipe = self.recipe.model_copy(deep=True)
        recipe.train.batch_size = plan.batch_size
        budget = self.budget
        if budget.kind == "seconds":
            budget = Budget("seconds", budget.amount - compilation.seconds)
        step_seconds = plan.train_seconds / plan.steps * (1 - compilation.saving)
        again = replace(self, recipe=recipe, budget=budget).plan(plan.shape, step_seconds)
        if again is None:
            raise UserError(
                f"compiling takes about {compilation.seconds:.0f} s and leaves too little of the budget for "
                f"{_FEWEST_STEPS} steps; use train.compile=off or a larger --budget"
            )
        return replace(
            again,
            compile=True,
            compile_seconds=compilation.seconds,
            train_seconds=again.train_seconds + compilation.seconds,
            eager_tokens_per_second=plan.tokens_per_second,
        )


def _given_tokens(budget: Budget) -> float:
    if budget.kind == "steps":
        return budget.amount * batch_tokens_for_steps(budget.amount)
    return budget.amount


def _compute_optimal(shapes: list[Shape], tokens: float, law: ExpectedLoss) -> Shape:
    """The largest shape for which `tokens` is not less than its compute-optimal share.

    With tokens given and time not, a larger model always lowers the loss; this is where the computation would be
    better spent on more tokens instead.
    """
    fitting = [
        shape for shape in shapes if shape == _best_for_flops(shapes, tokens * train_flops_per_token(shape), law)
    ]
    return fitting[-1] if fitting else shapes[0]


def _best_for_flops(shapes: list[Shape], flops: float, law: ExpectedLoss) -> Shape:
    return min(
        shapes,
        key=lambda shape: law.bits_per_byte(active_non_embedding(shape), flops / train_flops_per_token(shape)),
    )
