"""`[parallel]` and a number of devices: what resolves divides evenly, and all else is told in one line."""

from math import prod
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.plan.budget import Budget
from groundup.plan.choose import Corpus, choose
from groundup.plan.cluster.layout import Layout
from groundup.plan.hardware import Hardware
from groundup.plan.memory import train_bytes
from groundup.plan.parallel import group_sizes, resolve
from groundup.recipe import Recipe, parse
from groundup.shape import Shape

SHAPE = Shape(
    family="llama",
    num_layers=8,
    width=256,
    num_heads=8,
    num_kv_heads=4,
    head_width=32,
    feedforward_width=768,
    vocabulary_size=1024,
    context=256,
)
HARDWARE = Hardware("a processor", "cpu", 2, 16 << 30, 2e11, 6e11, 3e10)
CORPUS = Corpus(1e8, 3.6)


EXPERTS = SHAPE.model_copy(update={"family": "qwen3_moe", "num_experts": 8, "experts_per_token": 2})


def _recipe(parallel: dict[str, Any], **train: Any) -> Recipe:
    return parse({"parallel": parallel, "train": train, "model": {"family": "llama"}}, "test")


def _resolve(
    parallel: dict[str, Any], devices: int, shape: Shape = SHAPE, batch: int = 16, micro: int = 1, **train: Any
) -> Layout:
    return resolve(_recipe(parallel, **train), devices, shape, batch, micro)


_FACTORS = st.sampled_from([-1, 1, 1, 2, 4])


@settings(max_examples=300, deadline=None)
@given(
    st.fixed_dictionaries({"data": _FACTORS, "tensor": _FACTORS, "context": _FACTORS, "pipeline": _FACTORS}),
    st.sampled_from([1, 2, 3, 4, 8, 16]),
    st.sampled_from([1, 2, 8, 12, 16, 64]),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([("gpipe", 1), ("1f1b", 1), ("interleaved", 2)]),
    st.sampled_from([(0, 1), (1, 1), (3, 2)]),
)
def test_what_resolves_takes_all_devices_and_keeps_the_batch(
    factors: dict[str, int],
    devices: int,
    batch: int,
    micro: int,
    schedule: tuple[str, int],
    zero: tuple[int, int],
) -> None:
    ways = {"schedule": schedule[0], "virtual_stages": schedule[1], "zero": zero[0], "replicate": zero[1]}
    try:
        layout = _resolve(factors | ways, devices, batch=batch, micro=micro)
    except UserError as error:
        assert "\n" not in str(error)
        return
    sizes = {name: getattr(layout, name) for name in factors}
    assert prod(sizes.values()) == layout.devices == devices
    assert all(sizes[name] == size for name, size in factors.items() if size != -1)
    assert layout.micro_batch * layout.accumulation * layout.data == layout.batch == batch
    assert layout.micro_batch == micro
    assert layout.shard * layout.replicate == layout.data
    assert batch % layout.least_batch == 0 or layout.schedule == "1f1b"
    assert batch >= layout.least_batch


def test_the_rest_is_worked_out() -> None:
    assert _resolve({"tensor": 2}, 8) == _resolve({"data": 4, "tensor": 2}, 8)
    assert _resolve({"data": 2, "tensor": -1, "sequence": False}, 8).tensor == 4
    assert group_sizes(_recipe({}).parallel, 1) == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("parallel", "devices", "parts"),
    [
        ({"tensor": 3}, 4, ["tensor=3", "4 devices", "product of 1, 2, 4"]),
        ({"data": 2, "tensor": 4}, 4, ["data=2 x tensor=4", "8 devices", "there are 4", "--nproc 8"]),
        ({"tensor": 2}, 1, ["tensor=2", "1 device"]),
        ({"tensor": -1}, 4, ["only one of them can be the rest"]),
        ({"tensor": 0}, 4, ["tensor=0", "at least 1 device"]),
        ({"tensor": 8}, 8, ["tensor=8", "key/value heads (4)", "valid: 1, 2, 4"]),
        ({"pipeline": 16}, 16, ["16 pipeline stages", "8 layers"]),
        ({"replicate": 3, "zero": 1}, 4, ["parallel.replicate=3", "data=4", "valid: 1, 2, 4"]),
        ({"replicate": 2}, 4, ["parallel.replicate=2", "parallel.zero=0", "parallel.zero=1, 2 or 3"]),
        ({"expert": 2}, 4, ["parallel.expert=2", "llama has no experts", "parallel.expert=1"]),
        ({"schedule": "interleaved"}, 4, ["interleaved", "pipeline=1", "parallel.pipeline=2"]),
        ({"pipeline": 2, "schedule": "interleaved"}, 4, ["virtual_stages=1", "interleaved", "2 or more"]),
    ],
)
def test_factors_that_cannot_be_are_one_line(parallel: dict[str, Any], devices: int, parts: list[str]) -> None:
    with pytest.raises(UserError) as error:
        _resolve(parallel, devices)
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("parallel", "changed", "batch", "micro", "parts"),
    [
        ({"tensor": 2}, {"vocabulary_size": 1001}, 16, 1, ["tensor=2", "vocabulary (1001)", "1000 or 1002"]),
        ({"tensor": 4}, {"feedforward_width": 770}, 16, 1, ["feed-forward width (770)", "valid: 1, 2, 5"]),
        ({"context": 4}, {"context": 100}, 16, 1, ["model.context=100", "2 x context=4", "96 or 104"]),
        ({"tensor": 4}, {"context": 30}, 16, 1, ["model.context=30", "tensor=4", "28 or 32"]),
        ({}, {}, 10, 2, ["train.batch_size=10", "train.micro_batch=2 x data=4", "8 or 16"]),
        ({}, {}, 2, 1, ["train.batch_size=2", "data=4", "use 4"]),
        ({"pipeline": 4}, {}, 6, 2, ["3 micro-batches", "pipeline=4", "train.batch_size=8"]),
        (
            {"pipeline": 4, "schedule": "interleaved", "virtual_stages": 2},
            {},
            12,
            2,
            ["6 micro-batches", "multiple of pipeline=4", "8 or 16"],
        ),
    ],
)
def test_sizes_that_do_not_divide_are_one_line(
    parallel: dict[str, Any], changed: dict[str, int], batch: int, micro: int, parts: list[str]
) -> None:
    shape = SHAPE.model_copy(update=changed)
    with pytest.raises(UserError) as error:
        _resolve(parallel, 4, shape, batch, micro)
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("parallel", "train", "part"),
    [
        ({}, {"precision": "fp16"}, "use bf16 or fp32"),
        ({"zero": 1}, {"optimizer": "adafactor"}, "use adamw, muon"),
        ({}, {"batch_warmup": 0.5, "batch_warmup_from": 0.125}, "begins with a batch of 2"),
    ],
)
def test_what_does_not_go_together_says_what_does(
    parallel: dict[str, Any], train: dict[str, Any], part: str
) -> None:
    with pytest.raises(UserError, match=part) as error:
        _resolve(parallel, 4, **train)
    assert "\n" not in str(error.value)
    assert resolve(_recipe({}, **train), 1, SHAPE, 16, 1).devices == 1  # on one device all of it goes


def test_dropout_is_drawn_on_one_device() -> None:
    recipe = parse({"model": {"dropout": 0.1}}, "test")
    with pytest.raises(UserError, match=r"^model.dropout=0.1 is drawn on one device only; use model.dropout=0"):
        resolve(recipe, 4, SHAPE, 16, 1)
    assert resolve(recipe, 1, SHAPE, 16, 1).devices == 1


@pytest.mark.parametrize("parallel", [{"tensor": 2}, {"pipeline": 2}])
def test_blocks_with_norms_behind_are_not_divided(parallel: dict[str, int]) -> None:
    shape = SHAPE.model_copy(update={"family": "gpt1", "num_kv_heads": 8})

    def resolved(parallel: dict[str, int]) -> Layout:
        return resolve(parse({"parallel": parallel, "model": {"family": "gpt1"}}, "test"), 4, shape, 16, 1)

    with pytest.raises(UserError, match=r"norms .* stand behind") as error:
        resolved(parallel)
    assert "\n" not in str(error.value)
    assert resolved({"zero": 3}).zero == 3


# --- the planner ---


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([{}, {"tensor": 2}, {"pipeline": 2}, {"data": 2, "context": -1}]),
    st.sampled_from([2, 4, 6]),
    st.sampled_from([None, 1, 3]),
    st.floats(60, 1e5),
)
def test_a_planned_batch_divides_over_the_devices(
    parallel: dict[str, int], devices: int, micro: int | None, seconds: float
) -> None:
    recipe = _recipe(parallel, **({"micro_batch": micro} if micro else {}))
    try:
        plan = choose(recipe, Budget("seconds", seconds), HARDWARE, CORPUS, 2048, devices=devices)
    except UserError as error:
        assert "does not divide" in str(error)
        return
    layout = resolve(plan.resolve(recipe), devices, plan.shape, plan.batch_size, plan.micro_batch)
    assert layout.batch == plan.batch_size
    assert plan.devices == devices
    assert micro in {None, plan.micro_batch}


@pytest.mark.parametrize("parallel", [{}, {"tensor": 2}, {"context": 2, "tensor": 2}])
def test_n_devices_take_an_nth_of_the_time(parallel: dict[str, int]) -> None:
    """Of the measured time of one device's share of the same batch."""
    asked: list[int] = []

    def measured(shape: Shape, batch_size: int, _settings: object) -> float:
        asked.append(batch_size)
        return 0.01 * batch_size

    recipe = parse(
        {"model": SHAPE.model_dump(include={"family", "num_layers", "width", "context"}),
         "train": {"batch_size": 32}, "parallel": parallel}, "test"
    )  # fmt: skip
    budget = Budget("steps", 100)
    alone = choose(
        recipe.model_copy(update={"parallel": Recipe().parallel}),
        budget, HARDWARE, CORPUS, 1024, measured_step_seconds=measured,
    )  # fmt: skip
    many = choose(recipe, budget, HARDWARE, CORPUS, 1024, measured_step_seconds=measured, devices=4)
    assert set(asked) == {32, 32 // group_sizes(recipe.parallel, 4).data}
    assert many.train_seconds == pytest.approx(alone.train_seconds / 4)


def _resolve_experts(
    parallel: dict[str, Any], devices: int, shape: Shape = EXPERTS, coefficient: float = 0.0, **train: Any
) -> Layout:
    model = {"family": "qwen3_moe", "router_aux_loss_coef": coefficient}
    recipe = parse({"parallel": parallel, "train": train, "model": model}, "test")
    return resolve(recipe, devices, shape, 24, 1)


@pytest.mark.parametrize(
    ("parallel", "devices"),
    [
        ({"expert": 2}, 2),
        ({"expert": 4, "zero": 3}, 8),
        ({"expert": 2, "zero": 1, "replicate": 2}, 8),
        ({"expert": 2, "context": 2, "pipeline": 2}, 8),
        ({"expert": 1, "zero": 3}, 3),
    ],
)
def test_experts_are_divided_among_data_parallel_devices(parallel: dict[str, Any], devices: int) -> None:
    layout = _resolve_experts(parallel, devices)
    assert layout.expert == parallel["expert"]
    assert layout.devices == devices


@pytest.mark.parametrize(
    ("parallel", "devices", "changes", "parts"),
    [
        ({"expert": 3}, 6, {}, ["expert=3", "num_experts=8", "data=6", "valid: 1, 2"]),
        ({"expert": 4}, 2, {}, ["expert=4", "data=2", "valid: 1, 2"]),
        ({"expert": 4, "zero": 1, "replicate": 2}, 4, {}, ["data=4 / replicate=2", "valid: 1, 2"]),
        ({"expert": 2, "zero": 3}, 6, {}, ["zero=3", "3 devices", "width=256", "expert_width=384", "zero=0"]),
        ({"expert": 2, "tensor": 2}, 4, {}, ["tensor=2", "qwen3_moe", "parallel.tensor=1"]),
        ({"tensor": 2}, 4, {}, ["tensor=2", "qwen3_moe", "parallel.tensor=1"]),
        ({"pipeline": 2}, 2, {"coefficient": 0.001}, ["router_aux_loss_coef=0.001", "pipeline=2", "coef=0,"]),
        ({"expert": 2}, 2, {"optimizer": "adafactor"}, ["adafactor", "parallel.expert=1"]),
    ],
)
def test_how_experts_cannot_be_divided_is_one_line(
    parallel: dict[str, Any], devices: int, changes: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(UserError) as error:
        _resolve_experts(parallel, devices, **changes)
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


def _fitted(limit: int, recompute: str = "auto") -> tuple[str, int]:
    fixed = SHAPE.model_dump(include={"family", "num_layers", "width", "context"})
    recipe = parse(
        {"model": fixed, "train": {"batch_size": 64, "recompute": recompute, "memory_limit": limit,
                                   "precision": "fp32"}}, "test"
    )  # fmt: skip
    plan = choose(recipe, Budget("steps", 100), HARDWARE, CORPUS, 1024)
    resolved = plan.resolve(recipe).train
    assert train_bytes(plan.shape, plan.micro_batch, "fp32", resolved, 64) == plan.peak_bytes <= limit
    assert (resolved.recompute, resolved.micro_batch) == (plan.recompute, plan.micro_batch)
    return plan.recompute, plan.micro_batch


def test_recomputation_is_what_the_memory_asks_for() -> None:
    """No more than that, and micro-batches are halved when to recompute all is not enough."""
    kinds = ["none", "selective", "full"]
    found = [_fitted(limit << 20) for limit in range(640, 4000, 40)]
    assert {kind for kind, _ in found} == set(kinds)
    assert ("none", 64) in found
    # More memory never means a smaller micro-batch, nor more recomputed for the same one.
    places = [(-micro, kinds.index(kind)) for kind, micro in found]
    assert places == sorted(places, reverse=True)
    assert _fitted(700 << 20, "none")[0] == "none"
