"""The planner's arithmetic against the tensors of real steps, as `groundup.train.memory` sees them."""

from dataclasses import replace

import pytest
import torch

from groundup.errors import UserError
from groundup.model.registry import build
from groundup.plan.budget import Budget
from groundup.plan.choose import Corpus, Plan, choose
from groundup.plan.hardware import Hardware
from groundup.plan.memory import Moment, activation_bytes, step_memory, train_bytes
from groundup.plan.optimizer_memory import state_bytes
from groundup.plan.parameters import total
from groundup.recipe import Recipe, TrainRecipe
from groundup.shape import Shape
from groundup.shape import family as traits
from groundup.train.memory import Timeline, record_steps
from groundup.train.optimizers import OPTIMIZERS, build_optimizer, set_learning_rate

from ..shapes import experts

FAMILIES, PRECISIONS = ("gpt1", "gpt2", "llama", "qwen3", "qwen3_moe"), ("fp32", "bf16", "bf16-weights", "fp16")


def _shape(family: str, **changes: int) -> Shape:
    numbers = {
        "num_layers": 3,
        "width": 64,
        "num_heads": 4,
        "num_kv_heads": 2 if traits(family).grouped_query else 4,
        "head_width": 16,
        "feedforward_width": 192,
        "vocabulary_size": 512,
        "context": 64,
    }
    return Shape(family=family, **numbers | experts(family) | changes)


def _later_step(shape: Shape, precision: str, batch_size: int, **settings: object) -> Timeline:
    return record_steps(shape, TrainRecipe(**settings), precision=precision, batch_size=batch_size)[-1]


def _assert_agree(timeline: Timeline, planned: Moment, peak: int) -> None:
    for category in ("weights", "gradients", "optimizer", "activations"):
        assert getattr(planned, category) == pytest.approx(timeline.greatest(category), rel=0.05), category
    assert peak == pytest.approx(timeline.peak, rel=0.05)


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_formula_is_the_memory_of_a_step(family: str, precision: str, recompute: str) -> None:
    shape = _shape(family)
    planned = step_memory(shape, 8, precision, TrainRecipe(recompute=recompute))
    timeline = _later_step(shape, precision, 8, recompute=recompute)
    _assert_agree(timeline, planned.greatest, planned.peak)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16-weights"])
@pytest.mark.parametrize(
    ("shape", "batch_size"),
    [
        (_shape("gpt2", width=128, head_width=32, feedforward_width=512, vocabulary_size=3000, tied=False), 2),
        (_shape("llama", num_layers=5, context=256, feedforward_width=128, vocabulary_size=300), 3),
        (_shape("qwen3", context=640, vocabulary_size=300), 1),
        (_shape("qwen3_moe", num_experts=8, feedforward_width=96, context=128), 6),
        (_shape("qwen3", width=96, num_heads=3, num_kv_heads=1, head_width=32, vocabulary_size=1000), 12),
    ],
    ids=["wide, untied", "long attention", "longer than explicit attention", "experts", "many sequences"],
)
def test_the_formula_holds_for_other_shapes(shape: Shape, batch_size: int, precision: str) -> None:
    planned = step_memory(shape, batch_size, precision)
    _assert_agree(_later_step(shape, precision, batch_size), planned.greatest, planned.peak)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16-weights"])
def test_gradients_stay_while_micro_batches_follow(precision: str) -> None:
    shape = _shape("llama")
    planned = step_memory(shape, 2, precision, batch_size=6)
    timeline = _later_step(shape, precision, 6, micro_batch=2)
    _assert_agree(timeline, planned.greatest, planned.peak)
    assert planned.peak > step_memory(shape, 2, precision).peak


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_those_of_the_optimizer(family: str, optimizer: str) -> None:
    """Counted on a real optimizer after a real step, step counters (numbers without dimensions) left out."""
    model, settings = build(_shape(family)), TrainRecipe(optimizer=optimizer)
    stepper = build_optimizer(model, settings)
    set_learning_rate(stepper, 1e-3)
    model(torch.zeros(1, 8, dtype=torch.int64)).sum().backward()
    stepper.step()
    held = [value for state in stepper.state.values() for value in state.values()]
    held = [value for value in held if isinstance(value, torch.Tensor) and value.dim()]
    assert sum(tensor.nbytes for tensor in held) == state_bytes(model.shape, settings)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_step_of_every_optimizer_is_planned(optimizer: str) -> None:
    """With so few tokens the update is the peak."""
    shape = _shape("llama", num_layers=4, width=128, head_width=32, feedforward_width=384, context=8)
    planned = step_memory(shape, 1, "fp32", TrainRecipe(optimizer=optimizer))
    timeline = _later_step(shape, "fp32", 1, optimizer=optimizer)
    assert planned.update.total == pytest.approx(timeline.peaks()["update"]["total"], rel=0.05)


def test_sgd_without_momentum_keeps_nothing() -> None:
    assert state_bytes(_shape("llama"), TrainRecipe(optimizer="sgd", beta1=0.0)) == 0


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_activations_grow_by_the_token(precision: str, recompute: str) -> None:
    """Bytes a token of a real step: the difference that more sequences make."""
    shape, settings = _shape("qwen3"), TrainRecipe(recompute=recompute)
    few, many = (step_memory(shape, size, precision, settings).loss.activations for size in (4, 10))
    assert many - few == 6 * shape.context * activation_bytes(shape, precision, recompute)


def test_recomputation_and_short_types_keep_less() -> None:
    shape = _shape("qwen3")
    assert activation_bytes(shape, "bf16") < activation_bytes(shape, "fp32")
    none, selective, full = (activation_bytes(shape, "bf16", what) for what in ("none", "selective", "full"))
    assert none > selective > full


def test_the_process_is_more_than_its_tensors() -> None:
    shape = _shape("qwen3")
    plain, averaged = (train_bytes(shape, 4, "bf16", TrainRecipe(ema=ema)) for ema in (None, 0.99))
    assert plain > step_memory(shape, 4, "bf16").peak
    assert averaged >= plain + 4 * total(shape)


def _planned(hardware: Hardware, corpus: Corpus, **settings: object) -> Plan:
    recipe = Recipe(model={"num_layers": 8, "width": 512, "context": 512}, train={"batch_size": 64} | settings)
    return choose(recipe, Budget("seconds", 1e6), hardware, corpus, 2048)


def test_a_memory_limit_decides_the_micro_batch(hardware: Hardware, corpus: Corpus) -> None:
    """The largest part of the batch within the limit; without one, within 60 % of the memory."""
    sizes = []
    for limit, most in (("1.5GB", 1.5e9), ("3 GB", 3e9), ("6GiB", 6 << 30), (None, 0.6 * hardware.memory_bytes)):
        plan = _planned(hardware, corpus, memory_limit=limit)
        assert plan.peak_bytes <= most
        assert train_bytes(plan.shape, 2 * plan.micro_batch, plan.precision, batch_size=plan.batch_size) > most
        sizes.append(plan.micro_batch)
    assert sizes == sorted(set(sizes))


def test_recomputation_makes_room_for_larger_micro_batches(hardware: Hardware, corpus: Corpus) -> None:
    plans = [
        _planned(hardware, corpus, memory_limit="2GB", recompute=what) for what in ("none", "selective", "full")
    ]
    sizes = [plan.micro_batch for plan in plans]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize("limit", ["1B", "300MB"])
def test_a_limit_below_what_the_process_takes_is_refused(limit: str, hardware: Hardware, corpus: Corpus) -> None:
    with pytest.raises(UserError, match=r"train\.memory_limit") as error:
        choose(Recipe(train={"memory_limit": limit}), Budget("seconds", 600.0), hardware, corpus, 2048)
    assert "\n" not in str(error.value)


def test_a_limit_above_the_machine_is_the_machine(hardware: Hardware, corpus: Corpus) -> None:
    small = replace(hardware, memory_bytes=2 << 30)
    assert _planned(small, corpus, memory_limit="100TB").peak_bytes <= 2 << 30


def test_an_optimizer_that_the_planner_does_not_know_is_planned_as_adamw() -> None:
    """To add one takes a file and a line; what the planner knows better comes on top."""
    shape = _shape("qwen3")
    known, new = (train_bytes(shape, 4, "bf16", TrainRecipe(optimizer=name)) for name in ("adamw", "mine"))
    assert new == known
