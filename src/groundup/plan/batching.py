"""The batch of a step, and how it is cut up: over devices, and into micro-batches that fit their memory."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

from groundup.errors import UserError
from groundup.plan.budget import Budget
from groundup.plan.candidates import batch_tokens_for
from groundup.plan.cluster.layout import Layout
from groundup.plan.device_memory import device_bytes
from groundup.plan.flops import train_flops_per_token
from groundup.plan.hardware import Hardware, Precision
from groundup.plan.memory import Recompute
from groundup.plan.parallel import Sizes, batch_unit, group_sizes, one_device_budget, resolve
from groundup.plan.speed import step_seconds
from groundup.recipe import Recipe, TrainRecipe
from groundup.shape import Shape

# Training must leave room for the system and for the data that the kernel caches.
_MEMORY_SHARE = 0.6
_FEWEST_TOKENS_OF_BATCH_RULE = 1e5


class Fitting(NamedTuple):
    """A micro-batch that fits, what is recomputed for it, and the bytes of one device at the peak."""

    micro_batch: int
    recompute: Recompute
    peak_bytes: int


@dataclass(frozen=True)
class Batching:
    """Decides batch and micro-batch for a shape, all else being given."""

    recipe: Recipe
    budget: Budget
    hardware: Hardware
    devices: int = 1

    @property
    def precision(self) -> Precision:
        """The recipe's, or the machine's."""
        wanted = self.recipe.train.precision
        return self.hardware.precision if wanted == "auto" else wanted

    @property
    def room(self) -> int:
        """Bytes that training may take: the recipe's limit, or what leaves enough for all else."""
        limit, there = self.recipe.train.memory_limit, self.hardware.memory_bytes
        return int(_MEMORY_SHARE * there) if limit is None else min(limit, there)

    @property
    def sizes(self) -> Sizes:
        """Devices along each way to divide the work."""
        return group_sizes(self.recipe.parallel, self.devices)

    def batch_size(self, shape: Shape) -> int:
        """The recipe's, or that of the batch rule, rounded up to one that divides over the devices."""
        if self.recipe.train.batch_size:
            return self.recipe.train.batch_size
        size = _batch_size(shape, one_device_budget(self.budget, self.devices), self.hardware, self.precision)
        unit = batch_unit(self.recipe, self.sizes) if self.devices > 1 else 1
        return math.ceil(size / unit) * unit

    def share(self, shape: Shape) -> int:
        """Of the batch, the sequences of one device, or of the devices that have the same ones."""
        return self.batch_size(shape) // self.sizes.data

    def fitting(self, shape: Shape) -> Fitting | None:
        """The largest part of a share that fits the memory, or the recipe's micro-batch; None if nothing fits.

        With `train.recompute=auto` a micro-batch is made smaller only when to recompute all would not do.
        """
        train = self.recipe.train
        kinds = ("none", "selective", "full") if train.recompute == "auto" else (train.recompute,)
        for size in self._micro_batches(shape):
            for kind in cast(Sequence[Recompute], kinds):
                peak_bytes = self._peak_bytes(shape, size, train.model_copy(update={"recompute": kind}))
                if peak_bytes <= self.room:
                    return Fitting(size, kind, peak_bytes)
        return None

    def misfit(self, shape: Shape) -> UserError | None:
        """What is wrong with laying the shape out over the devices."""
        try:
            self._lay_out(shape, self.recipe.train.micro_batch or 1)
        except UserError as error:
            return error
        return None

    def _micro_batches(self, shape: Shape) -> Iterator[int]:
        """The recipe's, or a share, half of it, and so on as far as that can be laid out."""
        if fixed := self.recipe.train.micro_batch:
            yield fixed
            return
        size = self.share(shape)
        while size:
            if self.devices == 1 or self._divides(shape, size):
                yield size
            size //= 2

    def _divides(self, shape: Shape, micro_batch: int) -> bool:
        try:
            self._lay_out(shape, micro_batch)
        except UserError:
            return False
        return True

    def _peak_bytes(self, shape: Shape, micro_batch: int, settings: TrainRecipe) -> int:
        return device_bytes(shape, self._lay_out(shape, micro_batch), self.precision, settings, self.share(shape))

    def _lay_out(self, shape: Shape, micro_batch: int) -> Layout:
        """One device takes any batch: its last micro-batch may be a smaller one."""
        if self.devices == 1:
            return Layout(micro_batch=micro_batch)
        return resolve(self.recipe, self.devices, shape, self.batch_size(shape), micro_batch)


def affordable_steps(budget: Budget, shape: Shape, step_tokens: int, seconds_a_step: float) -> float:
    """How many steps of so many tokens and seconds the budget pays for."""
    match budget.kind:
        case "seconds":
            return budget.amount / seconds_a_step
        case "flops":
            return budget.amount / (step_tokens * train_flops_per_token(shape))
        case "tokens":
            return budget.amount / step_tokens
        case "steps":
            return budget.amount
        case "usd":
            raise AssertionError("money is turned into time before a model is chosen")


def tokens_of_batch_rule(shape: Shape, budget: Budget, hardware: Hardware, precision: str) -> float:
    """The tokens that the batch follows from, which themselves depend on it: by iteration."""
    tokens = _FEWEST_TOKENS_OF_BATCH_RULE
    for _ in range(7):
        batch_size = _unrounded_batch_size(tokens, shape)
        step_tokens = batch_size * shape.context
        seconds = step_seconds(shape, round(batch_size), hardware, precision)
        affordable = affordable_steps(budget, shape, round(step_tokens), seconds) * step_tokens
        tokens = max(affordable, _FEWEST_TOKENS_OF_BATCH_RULE)
    return tokens


def _batch_size(shape: Shape, budget: Budget, hardware: Hardware, precision: str) -> int:
    """Sequences a step by the batch rule.

    A power of two divides evenly into micro-batches; down, since too few steps cost more than too small a batch.
    """
    tokens = tokens_of_batch_rule(shape, budget, hardware, precision)
    return int(2 ** math.floor(math.log2(_unrounded_batch_size(tokens, shape))))


def _unrounded_batch_size(tokens: float, shape: Shape) -> float:
    return max(1.0, batch_tokens_for(tokens) / shape.context)
