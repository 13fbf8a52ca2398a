"""Hybrid sharding: ZeRO divides over a part of the data parallel devices, and the others have copies."""

from dataclasses import replace

import pytest

from groundup.errors import UserError
from groundup.plan.cluster.communication import Fabric, gradient_seconds, place, weight_seconds
from groundup.plan.cluster.layout import Layout, Zero
from groundup.plan.cluster.memory import FORMULAS_ALONE, device_memory
from groundup.plan.cluster.states import STATE_RECIPES
from groundup.plan.models import parse_shape

SHAPE = parse_shape("1B", None)
RECIPE = STATE_RECIPES["bf16"]
# A byte takes a second, a hop nothing.
_SLOW = Fabric(link_bandwidth=1.0, network_bandwidth=1.0, link_seconds=0.0, network_seconds=0.0)


@pytest.mark.parametrize("zero", [1, 2, 3])
@pytest.mark.parametrize("context", [1, 2])
def test_a_device_keeps_what_it_would_in_a_group_of_its_shards_alone(zero: Zero, context: int) -> None:
    hybrid = Layout(data=16, replicate=4, context=context, zero=zero, accumulation=2)
    alone = Layout(data=4, context=context, zero=zero, accumulation=2)
    assert (hybrid.shard, hybrid.zero_devices) == (4, 4 * context)
    peaks = [device_memory(SHAPE, one, RECIPE, constants=FORMULAS_ALONE) for one in (hybrid, alone)]
    assert peaks[0] == peaks[1]
    whole = device_memory(SHAPE, replace(hybrid, replicate=1), RECIPE, constants=FORMULAS_ALONE)
    assert whole.peak < peaks[0].peak


def test_gradients_are_summed_among_shards_and_then_among_copies() -> None:
    """Reduce-scatter (n - 1) / n over n shards, then all-reduce 2 (r - 1) / r of an nth over r copies."""
    groups = place(Layout(data=8, replicate=2, zero=1), node_size=8)
    assert (groups.shards.size, groups.copies.size, groups.gradients.size) == (4, 2, 8)
    parameters, each = 1e6, 2.0
    assert gradient_seconds(_SLOW, groups, 1, parameters, each) == pytest.approx(
        parameters * each * (3 / 4 + 2 * (1 / 2) / 4)
    )


def test_shards_within_a_node_spare_the_network() -> None:
    """The weights that ZeRO-3 gathers for every pass come over its fast links."""
    fabric = replace(_SLOW, link_bandwidth=1000.0)
    whole = Layout(data=64, zero=3)
    near, far = (place(one, 8).shards for one in (replace(whole, replicate=8), whole))
    assert (near.nodes, far.nodes) == (1, 8)
    assert weight_seconds(fabric, near, 1e6, 2.0) == pytest.approx(2e6 * 7 / 8 / 1000)
    assert weight_seconds(fabric, far, 1e6, 2.0) == pytest.approx(2e6 * 63 / 64 / 8)


def test_copies_that_do_not_divide_are_one_line() -> None:
    with pytest.raises(
        UserError, match=r"replicate=3 does not divide the data parallel groups \(8\); valid: 1, 2"
    ):
        Layout(data=8, replicate=3, zero=1).check(SHAPE)
