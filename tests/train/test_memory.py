import json
from itertools import groupby

import numpy as np
import pytest
import torch

from groundup.model.registry import build
from groundup.objective import CAUSAL
from groundup.plan.parameters import ledger, total
from groundup.recipe import TrainRecipe
from groundup.shape import Shape
from groundup.train.memory import CATEGORIES, PHASES, Timeline, Tracker, record_steps

# Without tables of rotary positions, so that parameters are all the weights there are.
SHAPE = Shape(
    family="gpt2",
    num_layers=2,
    width=32,
    num_heads=2,
    num_kv_heads=2,
    head_width=16,
    feedforward_width=64,
    vocabulary_size=200,
    context=16,
)
N = total(SHAPE)
NUM_TENSORS = len(list(build(SHAPE).parameters()))


def _record(precision: str = "fp32", batch_size: int = 4, **settings: object) -> list[Timeline]:
    settings = {"optimizer": "adamw"} | settings
    return record_steps(SHAPE, TrainRecipe(**settings), precision=precision, batch_size=batch_size)


@pytest.fixture(scope="module")
def steps() -> list[Timeline]:
    return _record()


def _in(step: Timeline, phase: str, category: str) -> np.ndarray:
    return step.bytes[category][np.array(step.phases) == phase]


# --- the tracker ---


def test_bytes_are_those_of_live_storages() -> None:
    with (tracker := Tracker(torch.device("cpu"))):
        first = torch.ones(1000)
        second = first + first  # both are there
        del first
        view = second.view(10, 100).t()  # no memory of its own
        del second  # held by the view
        doubled = torch.zeros(500, dtype=torch.float64)
        doubled.add_(1.0)
        del view
        torch.ones(1)
    found = tracker.timeline()
    steps = [size for size, _ in groupby(found.bytes["other"].tolist())]
    assert steps == [4000, 8000, 4000, 8000, 4004]


def test_what_was_there_before_counts_once_it_is_noted() -> None:
    weight = torch.ones(100)
    with (tracker := Tracker(torch.device("cpu"))):
        tracker.note("weights", [weight, weight.view(10, 10)])
        made = weight * 2
    assert tracker.timeline().bytes["weights"].tolist()[-1] == 400
    assert tracker.timeline().bytes["other"].tolist()[-1] == made.nbytes


# --- weights, gradients, states ---


def test_weights_gradients_and_states_are_what_is_known(steps: list[Timeline]) -> None:
    """4, 4 and 8 bytes a parameter, and AdamW's counters of 4 bytes a tensor."""
    for step in steps:
        assert set(step.bytes["weights"].tolist()) == {4 * N}
        assert step.greatest("gradients") == 4 * N
        assert step.greatest("optimizer") == 8 * N + 4 * NUM_TENSORS


def test_states_are_made_at_the_end_of_the_first_step(steps: list[Timeline]) -> None:
    first, later = steps
    for phase in ("forward", "backward"):
        assert not _in(first, phase, "optimizer").any()
        assert set(_in(later, phase, "optimizer").tolist()) == {8 * N + 4 * NUM_TENSORS}
    assert first.peak < later.peak


def test_gradients_come_in_the_backward_pass_and_stay_for_the_update(steps: list[Timeline]) -> None:
    for step in steps:
        assert not _in(step, "forward", "gradients").any()
        assert (np.diff(_in(step, "backward", "gradients")) >= 0).all()
        assert _in(step, "update", "gradients")[0] == 4 * N


def test_phases_follow_each_other(steps: list[Timeline]) -> None:
    assert [phase for phase, _ in groupby(steps[1].phases)] == list(PHASES)
    accumulated = _record(micro_batch=2)[1]
    assert [phase for phase, _ in groupby(accumulated.phases)] == [*PHASES[:2], *PHASES[:2], "update"]
    second_forward = accumulated.phases.index("forward", accumulated.phases.index("backward"))
    assert accumulated.bytes["gradients"][second_forward] == 4 * N


def test_short_types_hold_copies_of_the_weights() -> None:
    outer = ledger(SHAPE)["embedding"]
    autocast = _record("bf16")[1].bytes["weights"]
    norms = ledger(SHAPE)["norm"] + ledger(SHAPE)["position"]
    assert autocast.max() == 4 * N + 2 * (N - norms)  # of all that enters products, when the loss is taken
    assert autocast[-1] == 4 * N
    working_copy = _record("bf16-weights")[1]
    assert working_copy.bytes["weights"][-1] == 6 * N
    assert working_copy.greatest("gradients") <= 4 * N + 4 * outer


@pytest.mark.parametrize(
    ("optimizer", "size"),
    [("lion", 4 * N), ("sgd", 4 * N), ("adafactor", N // 2)],
    ids=["lion", "sgd", "adafactor"],
)
def test_other_optimizers_hold_less(optimizer: str, size: int) -> None:
    assert _record(optimizer=optimizer)[1].greatest("optimizer") <= size + 4 * NUM_TENSORS


# --- activations ---


def _saved_for_backward(batch_size: int) -> int:
    """Bytes of the storages that autograd's own hooks show to be saved, the weights left out."""
    model, saved = build(SHAPE), {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    windows = np.random.default_rng(0).integers(0, SHAPE.vocabulary_size, (batch_size, SHAPE.context + 1))
    batch = CAUSAL.collate(windows)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = CAUSAL.loss(model, batch)
    assert loss.mean.requires_grad
    saved.pop(batch.inputs_BT.data_ptr())  # made before the forward pass
    return sum(tensor.untyped_storage().nbytes() for pointer, tensor in saved.items() if pointer not in weights)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_activations_are_what_autograd_saves(batch_size: int) -> None:
    step = _record(batch_size=batch_size)[0]
    at_its_end = int(_in(step, "forward", "activations")[-1])
    # Beside them the loss itself is there.
    assert at_its_end - _saved_for_backward(batch_size) in range(0, 9)


def test_activations_are_gone_after_the_backward_pass(steps: list[Timeline]) -> None:
    for step in steps:
        assert _in(step, "update", "activations").max() < 100


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_computed_again_counts_as_activations(precision: str) -> None:
    """With full recomputation they rise again in the backward pass, block by block."""
    none, full = (_record(precision, 16, recompute=what)[1] for what in ("none", "full"))
    assert _in(full, "backward", "activations").max() > 1.2 * _in(full, "backward", "activations")[0]
    assert _in(none, "backward", "activations").max() == _in(none, "backward", "activations")[0]
    assert full.greatest("activations") < none.greatest("activations")


# --- the time line ---


def test_peaks_are_moments_of_the_greatest_total() -> None:
    values = {
        "weights": [5, 5, 5, 5], "gradients": [0, 1, 5, 5], "optimizer": [0, 0, 0, 8], "activations": [3, 9, 1, 0],
        "other": [2, 0, 0, 1],
    }  # fmt: skip
    step = Timeline(
        ("forward", "backward", "backward", "update"), {name: np.array(row) for name, row in values.items()}
    )
    assert step.total.tolist() == [10, 15, 11, 19]
    assert (step.peak, step.greatest("activations")) == (19, 9)
    assert step.peaks()["backward"] == {name: row[1] for name, row in values.items()} | {"total": 15}


def test_a_time_line_goes_through_json(steps: list[Timeline]) -> None:
    step = steps[1]
    written = json.loads(json.dumps(step.as_json()))
    assert written["phases"] == list(step.phases)
    assert written["bytes"] == {name: step.bytes[name].tolist() for name in CATEGORIES}
    assert written["peaks"] == step.peaks()
    assert max(phase["total"] for phase in written["peaks"].values()) == step.peak
