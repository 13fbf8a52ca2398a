"""From a recipe's `[parallel]` section and a number of devices to a layout, or to one line that says why not."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from groundup.errors import UserError
from groundup.plan.budget import Budget
from groundup.plan.cluster.layout import Layout
from groundup.plan.memory import decided_recompute
from groundup.recipe import ParallelRecipe, Recipe
from groundup.shape import Shape, family

_REST = -1


class Sizes(NamedTuple):
    """Devices along each way to divide the work; their product is all of them."""

    data: int
    tensor: int
    context: int
    pipeline: int

    @property
    def model(self) -> int:
        """Devices that train on the same sequences."""
        return self.tensor * self.context * self.pipeline


def group_sizes(parallel: ParallelRecipe, devices: int) -> Sizes:
    """The sizes that the recipe asks for on so many devices, with 'the rest' worked out.

    Raises UserError, with factors that are possible, where their product cannot be `devices`.
    """
    wanted = Sizes(*(getattr(parallel, name) for name in Sizes._fields))
    named = " x ".join(f"{name}={size}" for name, size in wanted._asdict().items())
    if 0 in wanted:
        raise UserError(f"parallel: {named}: a group has at least 1 device; write -1 for the rest of them")
    product = math.prod(size for size in wanted if size != _REST)
    if wanted.count(_REST) > 1:
        raise UserError(f"parallel: {named}: only one of them can be the rest (-1); give numbers for the others")
    if wanted.count(_REST) == 1:
        if devices % product:
            raise UserError(f"parallel: {named} does not divide {_number(devices)}; {_cure(product, devices)}")
        wanted = Sizes(*(devices // product if size == _REST else size for size in wanted))
    elif product != devices:
        raise UserError(
            f"parallel: {named} takes {_number(product)} but there {'is' if devices == 1 else 'are'} {devices}; "
            f"use --nproc {product}, or parallel.data=-1 for the rest"
        )
    return wanted


def resolve(recipe: Recipe, devices: int, shape: Shape, batch_size: int, micro_batch: int) -> Layout:
    """How this recipe's model and batch lie on `devices` devices.

    Args:
        recipe: of which [parallel] counts, and of [train] what not every layout can do.
        devices: how many there are.
        shape: of the model.
        batch_size: sequences of a step, over all devices.
        micro_batch: sequences of a forward pass on one device, or on one group of those that share a sequence.

    Raises:
        UserError: in one line, with valid choices, where anything does not divide or go together.
    """
    parallel = recipe.parallel
    sizes = group_sizes(parallel, devices)
    refuse_unsupported(recipe, devices)
    step = micro_batch * sizes.data
    if batch_size % step:
        raise UserError(
            f"train.batch_size={batch_size} does not divide over train.micro_batch={micro_batch} x "
            f"data={sizes.data}; use {_neighbours(batch_size, step)}"
        )
    layout = Layout(
        **sizes._asdict(),
        zero=parallel.zero,
        micro_batch=micro_batch,
        accumulation=batch_size // step,
        sequence=parallel.sequence,
        schedule=parallel.schedule,
        virtual_stages=parallel.virtual_stages,
        recompute=decided_recompute(recipe.train),
        replicate=parallel.replicate,
        expert=parallel.expert,
    )
    layout.check(shape)
    _check_vocabulary(shape, sizes)
    _check_experts(shape, layout)
    _check_sequence(shape, layout)
    _check_micro_batches(layout)
    _check_growing_batch(recipe, layout)
    return layout


def refuse_unsupported(recipe: Recipe, devices: int) -> None:
    """UserError, with the cure, for settings that do not go together; all of them are listed here."""
    sizes = group_sizes(recipe.parallel, devices)
    for is_so, what, cure in _unsupported(recipe, sizes):
        if is_so:
            raise UserError(f"{what}; {cure}")


def _unsupported(recipe: Recipe, sizes: Sizes) -> Iterator[tuple[bool, str, str]]:
    """Whether it is so, what does not go together, what to do instead."""
    parallel, train = recipe.parallel, recipe.train
    traits = family(recipe.model.family)
    has_experts = traits.experts
    many, divided = math.prod(sizes) > 1, parallel.zero > 0 or sizes.tensor > 1 or parallel.expert > 1
    yield (
        parallel.replicate > 1 and parallel.zero == 0,
        f"parallel.replicate={parallel.replicate} says how many copies there are of what ZeRO divides, but "
        "parallel.zero=0 divides nothing",
        "use parallel.zero=1, 2 or 3, or leave parallel.replicate out",
    )
    yield (
        sizes.data % parallel.replicate != 0,
        f"parallel.replicate={parallel.replicate} does not divide data={sizes.data}",
        f"valid: {', '.join(str(size) for size in range(1, sizes.data + 1) if sizes.data % size == 0)}",
    )
    yield (
        parallel.expert > 1 and not has_experts,
        f"parallel.expert={parallel.expert}, but model.family={recipe.model.family} has no experts",
        "use parallel.expert=1",
    )
    yield (
        sizes.tensor > 1 and has_experts,
        f"tensor={sizes.tensor} divides no feed-forward block of model.family={recipe.model.family}",
        "use parallel.tensor=1, and parallel.expert or parallel.zero to divide weights",
    )
    yield (
        sizes.pipeline > 1 and has_experts and recipe.model.router_aux_loss_coef > 0,
        f"model.router_aux_loss_coef={recipe.model.router_aux_loss_coef:g} weighs the experts' load in all layers "
        f"together, but each device of pipeline={sizes.pipeline} has some of them",
        "use model.router_aux_loss_coef=0, or parallel.pipeline=1",
    )
    yield (
        traits.post_norm and (sizes.tensor > 1 or sizes.pipeline > 1),
        f"tensor={sizes.tensor} and pipeline={sizes.pipeline} divide blocks whose norms stand before their parts, "
        f"but those of model.family={recipe.model.family} stand behind them",
        "use parallel.tensor=1 and parallel.pipeline=1, and parallel.zero to divide weights",
    )
    yield (
        parallel.schedule == "interleaved" and sizes.pipeline == 1,
        "parallel.schedule=interleaved interleaves the stages of a pipeline, but pipeline=1",
        "use parallel.pipeline=2 or more, or leave parallel.schedule out",
    )
    yield (
        many and recipe.model.dropout > 0,
        f"model.dropout={recipe.model.dropout:g} is drawn on one device only",
        "use model.dropout=0 on many",
    )
    yield (
        many and train.precision == "fp16",
        "train.precision=fp16 scales the loss on one device only",
        "use bf16 or fp32 on many",
    )
    yield (
        divided and many and train.optimizer == "adafactor",
        "train.optimizer=adafactor needs whole matrices, which ZeRO, tensor and expert parallelism divide",
        "use adamw, muon, lion or sgd, or parallel.zero=0, parallel.tensor=1 and parallel.expert=1",
    )
    yield (
        many and train.device == "mps",
        "train.device=mps is one device",
        "use train.device=cuda or cpu for many",
    )


def one_device_budget(budget: Budget, devices: int) -> Budget:
    """What one device would need for the same work: of time, as many times more as there are devices."""
    return replace(budget, amount=budget.amount * devices) if budget.kind in {"seconds", "usd"} else budget


def batch_unit(recipe: Recipe, sizes: Sizes) -> int:
    """What a batch that the planner chooses is a multiple of, so that it divides and a pipeline is full."""
    layout = Layout(data=sizes.data, pipeline=sizes.pipeline, schedule=recipe.parallel.schedule)
    return layout.least_batch * (recipe.train.micro_batch or 1)


def _check_vocabulary(shape: Shape, sizes: Sizes) -> None:
    if shape.vocabulary_size % sizes.tensor:
        raise UserError(
            f"tensor={sizes.tensor} does not divide the vocabulary ({shape.vocabulary_size}); use "
            f"tokenizer.vocabulary_size={_neighbours(shape.vocabulary_size, sizes.tensor)}, or parallel.tensor=1"
        )


def _check_experts(shape: Shape, layout: Layout) -> None:
    """Experts are divided among devices over which ZeRO divides, and with ZeRO each expert over its copies."""
    if layout.expert == 1:
        return
    both = math.gcd(shape.num_experts or 1, layout.shard)
    if both % layout.expert:
        copies = f" / replicate={layout.replicate}" if layout.replicate > 1 else ""
        raise UserError(
            f"parallel.expert={layout.expert} does not divide both model.num_experts={shape.num_experts} and "
            f"data={layout.data}{copies}; valid: {', '.join(str(n) for n in range(1, both + 1) if both % n == 0)}"
        )
    parts, sides = layout.zero_devices // layout.expert, math.gcd(shape.width, shape.expert_width or 0)
    if layout.zero and sides % parts:
        raise UserError(
            f"parallel.zero={layout.zero} divides each expert over {_number(parts)}, but not both "
            f"model.width={shape.width} and model.expert_width={shape.expert_width} divide by {parts}; use widths "
            "that do, or parallel.zero=0"
        )


def _check_sequence(shape: Shape, layout: Layout) -> None:
    """Each device has two chunks of a sequence, an early and a late one; `sequence` divides them once more."""
    chunks = 2 * layout.context if layout.context > 1 else 1
    if layout.sequence and layout.tensor > 1:
        chunks = math.lcm(chunks, layout.context * layout.tensor)
    if shape.context % chunks:
        why = f"2 x context={layout.context}" if layout.context > 1 else f"tensor={layout.tensor} with sequence"
        if layout.context > 1 and layout.sequence and layout.tensor > 1:
            why += f" and tensor={layout.tensor} with sequence"
        raise UserError(
            f"model.context={shape.context} does not divide by {why}; use {_neighbours(shape.context, chunks)}"
        )


def _check_micro_batches(layout: Layout) -> None:
    count, stages = layout.accumulation, layout.pipeline
    if layout.schedule == "1f1b" and count < stages:
        raise UserError(
            f"{_number(count, 'micro-batch', 'micro-batches')} a step are too few for pipeline={stages}; use "
            f"train.batch_size={layout.least_batch} or more, a smaller train.micro_batch, or schedule=gpipe"
        )
    if layout.schedule == "interleaved" and count % stages:
        step = layout.micro_batch * layout.data
        raise UserError(
            f"{_number(count, 'micro-batch', 'micro-batches')} a step are not a multiple of pipeline={stages}, as "
            f"interleaving needs; use train.batch_size={_neighbours(count * step, stages * step)}"
        )


def _check_growing_batch(recipe: Recipe, layout: Layout) -> None:
    train = recipe.train
    first = round(train.batch_warmup_from * layout.batch)
    if train.batch_warmup and first < layout.least_batch:
        raise UserError(
            f"train.batch_warmup_from={train.batch_warmup_from:g} begins with a batch of {first}, but "
            f"{layout.least_batch} is the smallest that divides over these devices; use "
            f"{layout.least_batch / layout.batch:g} or more, or train.batch_warmup=0"
        )


def _cure(product: int, devices: int) -> str:
    """Factors that would do, or another number of devices."""
    factors = [size for size in range(1, devices + 1) if devices % size == 0]
    shown = ", ".join(map(str, factors[:12])) + (", ..." if len(factors) > 12 else "")
    return f"use --nproc {max(1, devices // product) * product}, or factors with a product of {shown}"


def _number(count: int, one: str = "device", many: str = "devices") -> str:
    return f"{count} {one if count == 1 else many}"


def _neighbours(value: int, step: int) -> str:
    """The nearest multiples of `step` on both sides."""
    below = value // step * step
    return f"{below} or {below + step}" if below else f"{step}"
