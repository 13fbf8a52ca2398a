"""What processes keep and send in a step: really (gloo), in theory, and rehearsed without the others."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from groundup.objective import CAUSAL
from groundup.parallel.grid import Grid
from groundup.parallel.traffic import Collective
from groundup.pipeline.rehearsal import rehearse
from groundup.pipeline.watched_step import StepOfOne, WatchedStep
from groundup.plan.cluster.memory import device_stages
from groundup.plan.cluster.sent import step_sent
from groundup.plan.cluster.stages import Stage
from groundup.plan.cluster.states import state_recipe
from groundup.recipe import ParallelRecipe
from groundup.train.step import lay_out
from tests.parallel.processes import run
from tests.parallel.test_many_devices import layout
from tests.parallel.training import SEED, Case, settings, small_shape, windows

CASES = {
    "data": Case(layout(data=2)),
    "zero 1": Case(layout(data=2, zero=1)),
    "zero 2": Case(layout(data=2, zero=2)),
    "zero 3": Case(layout(data=2, zero=3), tied=False),
    "tensor": Case(layout(tensor=2, sequence=False)),
    "sequence": Case(layout(tensor=2)),
    "context": Case(layout(context=2)),
    "context, zero 3": Case(layout(context=2, zero=3)),
    "pipeline": Case(layout(pipeline=2)),
    "untied pipeline": Case(layout(pipeline=2, schedule="gpipe"), tied=False),
    "recomputed": Case(layout(tensor=2, recompute="full"), train={"recompute": "full"}),
    "recomputed keys": Case(layout(context=2, recompute="selective"), train={"recompute": "selective"}),
    "interleaved": Case(layout(pipeline=2, schedule="interleaved", virtual_stages=2)),
}

# A greater width: how many tokens come is told beside fewer of them.
_EXPERTS: dict[str, Any] = {"family": "qwen3_moe", "shape": {"width": 64, "router_aux_loss_coef": 0.0}}
EXPERTS = {
    "experts": Case(layout(data=2, expert=2), **_EXPERTS),
    "recomputed experts, muon": Case(
        layout(data=2, expert=2, zero=1, recompute="full"),
        train={"recompute": "full", "optimizer": "muon"},
        **_EXPERTS,
    ),
}


def take_steps(_rank: int, cases: dict[str, Case]) -> dict[str, StepOfOne]:
    """Of each case the second step on this process, with the greater memory of the first two."""
    return {name: _take(case) for name, case in cases.items()}


def _take(case: Case) -> StepOfOne:
    train, objective = settings(case, case.layout.micro_batch), CAUSAL
    parallel = ParallelRecipe(zero=case.layout.zero)
    devices = lay_out(
        small_shape(case), objective, train, parallel, Grid(case.layout, "cpu"),
        precision="fp32", device="cpu", seed=SEED,
    )  # fmt: skip
    step = WatchedStep(objective, train, precision="fp32", device="cpu", devices=devices)
    first, second = step.watched(windows()[0]), step.watched(windows()[1])
    # DDP's gradients lie in their buckets from the second step on; in the first they are there twice.
    return replace(second, timeline=max(first, second, key=_peak).timeline)


@pytest.fixture(scope="module")
def real() -> list[dict[str, StepOfOne]]:
    steps: list[dict[str, StepOfOne]] = run(2, take_steps, CASES | EXPERTS)
    return steps


def _rehearsed(case: Case, rank: int) -> StepOfOne:
    train = settings(case, case.layout.micro_batch)
    parallel = ParallelRecipe(zero=case.layout.zero)
    return rehearse(small_shape(case), case.layout, train, parallel, precision="fp32", rank=rank)


def _stage(case: Case, rank: int) -> Stage:
    return device_stages(small_shape(case), case.layout)[rank if case.layout.pipeline > 1 else 0]


def _peak(step: StepOfOne) -> int:
    """Without what has no purpose that is known: a pipeline's buffers are seen in the step that makes them."""
    return sum(bytes_ for category, bytes_ in step.at_peak.items() if category != "other")


def _counts(step: StepOfOne) -> Counter[Collective]:
    """Without the few bytes by which DDP agrees on its buckets, and neighbours warm up, in one step only."""
    return Counter(record for record in step.traffic if record.bytes > 188)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_bytes_that_are_sent_are_those_of_theory(real: list[dict[str, StepOfOne]], name: str, rank: int) -> None:
    case = CASES[name]
    shape = small_shape(case)
    place = rank if case.layout.pipeline > 1 else 0
    theory = sum(row.bytes for row in step_sent(shape, case.layout, place, optimizer=_optimizer(case)))
    assert _sent(real[rank][name]) == pytest.approx(theory, rel=0.02)


@pytest.mark.parametrize("name", EXPERTS)
def test_tokens_that_are_sent_to_experts_are_those_of_theory(real: list[dict[str, StepOfOne]], name: str) -> None:
    """Over both processes: where one gets more tokens, the other gets fewer."""
    case = EXPERTS[name]
    theory = step_sent(small_shape(case), case.layout, 0, optimizer=_optimizer(case))
    tokens = sum(row.bytes for row in theory if row.kind == "all-to-all")
    assert sum(_sent(steps[name], "all-to-all") for steps in real) == pytest.approx(2 * tokens, rel=0.02)
    assert sum(_sent(steps[name]) for steps in real) == pytest.approx(
        2 * sum(row.bytes for row in theory), rel=0.02
    )


def _optimizer(case: Case) -> str:
    return settings(case, case.layout.micro_batch).optimizer


def _sent(step: StepOfOne, kind: str | None = None) -> float:
    return sum(record.sent_bytes for record in step.traffic if kind in (None, record.kind))


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_states_are_those_of_the_formulas(real: list[dict[str, StepOfOne]], name: str, rank: int) -> None:
    case, states = CASES[name], state_recipe("fp32")
    shards = case.layout.zero_devices if case.layout.zero else 1
    parameters = _stage(case, rank).parameters / case.layout.tensor / shards
    step = real[rank][name]
    assert step.standing["weights"] == pytest.approx(states.weights * parameters, rel=0.05)
    assert step.standing["optimizer"] == pytest.approx(states.optimizer * parameters, rel=0.05)
    assert step.ready["gradients"] == pytest.approx(states.gradients * parameters, rel=0.05)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_a_rehearsal_keeps_and_sends_what_a_run_does(
    real: list[dict[str, StepOfOne]], name: str, rank: int
) -> None:
    step, rehearsed = real[rank][name], _rehearsed(CASES[name], rank)
    assert _counts(rehearsed) == _counts(step)
    for category in ("weights", "gradients", "optimizer"):
        assert rehearsed.standing[category] == step.standing[category]
        assert rehearsed.ready[category] == step.ready[category]
    assert _peak(rehearsed) == pytest.approx(_peak(step), rel=0.05)


def test_axes_and_sizes_of_a_hybrid() -> None:
    """Parts of parameters are summed over the copies; weights are gathered among those that have parts."""
    case = Case(layout(data=4, replicate=2, zero=2))
    by_axis: Counter[tuple[str, str]] = Counter()
    for record in _rehearsed(case, 3).traffic:
        by_axis[record.kind, record.axis] += record.bytes
    whole = _stage(case, 0).parameters * 4
    micro_batches = case.layout.accumulation
    assert by_axis["reduce-scatter", "shard"] == micro_batches * whole
    assert by_axis["all-reduce", "replicate"] == pytest.approx(micro_batches * whole / 2, rel=0.01)
    assert by_axis["all-gather", "shard"] == whole


def test_what_a_ring_sends() -> None:
    assert Collective("all-reduce", 100, 4, "").sent_bytes == 150
    assert Collective("reduce-scatter", 100, 4, "").sent_bytes == 75
    assert Collective("all-gather", 100, 4, "").sent_bytes == 75
    assert Collective("send", 100, 4, "").sent_bytes == 100
    assert Collective("all-reduce", 100, 1, "").sent_bytes == 0
