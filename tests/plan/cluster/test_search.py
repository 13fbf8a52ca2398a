"""The search against trying every layout there is, and what it says where there is none."""

from dataclasses import replace
from itertools import product
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.plan.cluster.devices import Cluster, parse_hardware
from groundup.plan.cluster.layout import Layout
from groundup.plan.cluster.layout_question import nearest_batch, parse_batch, parse_factors
from groundup.plan.cluster.memory import device_memory, usable_bytes
from groundup.plan.cluster.search import HEADROOM, divisors, ranking, search
from groundup.plan.cluster.states import STATE_RECIPES
from groundup.plan.cluster.time import step_time
from groundup.plan.models import named_shape
from groundup.shape import Shape

_RECIPE = STATE_RECIPES["bf16-main-grads"]


def _named(name: str) -> Shape:
    shape = named_shape(name)
    assert shape is not None
    return shape


def _every_layout(shape: Shape, devices: int, batch: int) -> list[Layout]:
    """All that divide, by trying all numbers."""
    sizes = range(1, devices + 1)
    found = []
    for data, tensor, pipeline in product(sizes, sizes, sizes):
        if data * tensor * pipeline != devices or batch % data or shape.num_kv_heads % tensor:
            continue
        if shape.feedforward_width % tensor or tensor > 8 or pipeline > shape.num_layers:
            continue
        share = batch // data
        for micro_batch in (size for size in range(1, share + 1) if share % size == 0):
            for zero, recompute in product((0, 1, 2, 3), ("none", "full")):
                if data > 1 or zero == 0:
                    found.append(
                        Layout(
                            data=data,
                            tensor=tensor,
                            pipeline=pipeline,
                            zero=zero,
                            micro_batch=micro_batch,
                            accumulation=share // micro_batch,
                            recompute=recompute,
                        )
                    )
    return found


def _fits(shape: Shape, layout: Layout, cluster: Cluster) -> bool:
    return device_memory(shape, layout, _RECIPE).peak <= (1 - HEADROOM) * usable_bytes(cluster.device)


@pytest.mark.parametrize(
    ("name", "hardware", "batch"),
    [
        ("playbook-1b", "h100x8", 32),
        ("playbook-3b", "h100x8", 12),
        ("llama2-7b", "h100x8", 16),
        ("llama2-7b", "a100-40x8", 16),
        ("llama2-13b", "h100x12", 24),
        ("llama2-13b", "4090x16", 16),
    ],
)
def test_the_first_is_the_fastest_of_all_that_fit(name: str, hardware: str, batch: int) -> None:
    shape, cluster = _named(name), parse_hardware(hardware)
    fitting = [one for one in _every_layout(shape, cluster.count, batch) if _fits(shape, one, cluster)]
    fastest = min(step_time(shape, layout, cluster, _RECIPE).seconds for layout in fitting)
    assert search(shape, cluster, batch, _RECIPE)[0].time.seconds == pytest.approx(fastest)


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from(["gpt2", "playbook-1b", "llama2-7b", "llama3-8b", "qwen3-0.6b"]),
    hardware=st.sampled_from(["h100x8", "h100x24", "a100x64"]),
    units=st.integers(1, 40),
)
def test_candidates_divide_fit_and_are_in_order(name: str, hardware: str, units: int) -> None:
    shape, cluster = _named(name), parse_hardware(hardware)
    batch = units * cluster.count
    found = search(shape, cluster, batch, _RECIPE, limit=6)
    speeds = [one.time.tokens_per_second for one in found]
    assert ranking([one.layout for one in found], speeds) == list(range(len(found)))
    # Only the places of those that are as fast as the fastest are not by speed.
    behind = [speed for speed in speeds if speed < 0.98 * max(speeds)]
    assert speeds[len(speeds) - len(behind) :] == sorted(behind, reverse=True)
    assert len({one.layout for one in found}) == len(found)
    for one in found:
        one.layout.check(shape)
        assert (one.layout.devices, one.layout.batch) == (cluster.count, batch)
        assert one.memory == device_memory(shape, one.layout, _RECIPE)
        assert _fits(shape, one.layout, cluster)
        assert one.time == step_time(shape, one.layout, cluster, _RECIPE)
        dollars = one.usd_per_hour * 1e9 / one.time.tokens_per_second / 3600
        assert one.usd_per_billion_tokens == pytest.approx(dollars)
    assert found == search(shape, cluster, batch, _RECIPE, limit=6)


@pytest.mark.parametrize(
    "fixed",
    [
        {"tensor": 8},
        {"pipeline": 4, "zero": 1},
        {"recompute": "full", "micro_batch": 2},
        {"context": 2, "data": 16},
        {"zero": 3, "accumulation": 4},
        {"schedule": "interleaved", "virtual_stages": 2, "pipeline": 4},
        {"sequence": False, "tensor": 4},
    ],
)
def test_what_is_fixed_stays(fixed: dict[str, Any]) -> None:
    for one in search(_named("llama2-7b"), parse_hardware("h100x64"), 256, _RECIPE, fixed=fixed):
        assert {name: getattr(one.layout, name) for name in fixed} == fixed


def test_the_groups_that_llama3_405b_was_trained_with_are_among_the_best() -> None:
    """8,192 H100, weights whole: tensor 8, context 1, pipeline 16 (Grattafiori et al. 2024, arXiv:2407.21783)."""
    shape, cluster = _named("llama3-405b"), parse_hardware("h100x8192")
    found = search(shape, cluster, 2048, _RECIPE, fixed={"zero": 1}, limit=3)
    published = [
        one for one in found if (one.layout.tensor, one.layout.context, one.layout.pipeline) == (8, 1, 16)
    ]
    assert published
    assert published[0].time.tokens_per_second > 0.98 * found[0].time.tokens_per_second


def test_less_memory_is_never_faster() -> None:
    shape, cluster = _named("llama2-13b"), parse_hardware("h100x32")
    speeds = []
    for gib in (24, 40, 80, 160):
        device = replace(cluster.device, memory_bytes=gib << 30)
        speeds.append(search(shape, Cluster(device, 32), 256, _RECIPE)[0].time.tokens_per_second)
    assert speeds == sorted(speeds)
    assert speeds[0] < speeds[-1]


@pytest.mark.parametrize("name", ["playbook-1b", "llama2-7b", "llama2-70b"])
def test_one_shape_on_512_devices_takes_less_than_50_ms(name: str) -> None:
    shape, cluster = _named(name), parse_hardware("h100x512")
    seconds = []
    for _ in range(5):
        start = perf_counter()
        search(shape, cluster, 1024, _RECIPE)
        seconds.append(perf_counter() - start)
    assert min(seconds) < 0.05


@pytest.mark.parametrize(
    ("fixed", "parts"),
    [
        ({"tensor": 3}, ["tensor=3", "64 devices", "1, 2, 4, 8"]),
        ({"tensr": 2}, ["tensr", "did you mean 'tensor'"]),
        ({"tensor": 8, "pipeline": 16}, ["tensor=8 x pipeline=16", "64 devices"]),
        ({"tensor": 64}, ["tensor=64", "key/value heads (32)"]),
        ({"pipeline": 64}, ["64 pipeline stages", "32 layers"]),
        ({"micro_batch": 7}, ["micro_batch=7", "96 sequences", "1, 2, 3"]),
        ({"data": 64}, ["data=64", "96 sequences", "32"]),
        ({"zero": 4}, ["zero=4", "0, 1, 2, 3"]),
        ({"recompute": "some"}, ["recompute=some", "none, selective, full"]),
        ({"data": 32, "tensor": 1, "pipeline": 1}, ["data=32", "leave one of them open"]),
    ],
)
def test_factors_that_do_not_divide_are_one_line(fixed: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(UserError) as error:
        search(_named("llama2-7b"), parse_hardware("h100x64"), 96, _RECIPE, fixed=fixed)
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_batch_that_does_not_divide_is_told_with_some_that_do() -> None:
    shape, cluster = _named("llama2-7b"), parse_hardware("h100x512")
    with pytest.raises(UserError, match="batch of 3 sequences") as error:
        search(shape, cluster, 3, _RECIPE)
    told = [int(word) for word in str(error.value).split("; use ")[1].split(" or ")]
    for batch in told:
        assert search(shape, cluster, batch, _RECIPE)


def test_a_model_that_is_too_large_is_told_with_what_it_needs() -> None:
    shape, cluster = _named("llama2-70b"), parse_hardware("h100x8")
    with pytest.raises(UserError, match="does not fit h100x8") as error:
        search(shape, cluster, 64, _RECIPE, fixed={"zero": 0})
    least = min(device_memory(shape, one, _RECIPE).peak for one in _every_layout(shape, 8, 64) if one.zero == 0)
    assert f"{least / 2**30:.1f} GiB" in str(error.value)
    for cure in ("zero left open", "more devices", "shorter sequences", "8bit-adam"):
        assert cure in str(error.value)


@given(st.integers(1, 3000))
def test_divisors_are_all_of_them(amount: int) -> None:
    assert divisors(amount) == [number for number in range(1, amount + 1) if amount % number == 0]


@given(st.floats(1e4, 1e8), st.sampled_from([512, 2048, 4096]), st.integers(1, 600))
def test_a_batch_in_tokens_is_rounded_to_one_that_divides(tokens: float, context: int, devices: int) -> None:
    batch = nearest_batch(tokens, context, devices)
    odd = devices
    while odd % 2 == 0:
        odd //= 2
    assert batch >= 1
    assert batch % odd == 0
    # At most 5 % off, or the nearest multiple of the odd part.
    assert abs(batch - tokens / context) <= max(0.05 * tokens / context, odd)


def test_batches_and_factors_as_they_are_written() -> None:
    assert parse_batch("4Mtok", 4096, 512) == (1024, 4e6)
    assert parse_batch("1000", 4096, 512) == (1000, None)
    assert parse_factors(["tensor=8", "recompute=full", "sequence=False", "zero=3"]) == {
        "tensor": 8,
        "recompute": "full",
        "sequence": False,
        "zero": 3,
    }
    for text in ("soon", "0", "-4", "4Mflop", "1h", "100tok"):
        with pytest.raises(UserError, match="--global-batch"):
            parse_batch(text, 4096, 8)
    for factor in ("tensor", "tensor=two", "data=-1"):
        with pytest.raises(UserError, match="--fix"):
            parse_factors([factor])
