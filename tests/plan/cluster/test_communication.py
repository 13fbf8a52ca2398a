"""Collectives: bytes against rings that are played through, groups against ranks that are numbered out."""

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.plan.cluster.communication import Fabric, Group, context_seconds, place, tensor_seconds
from groundup.plan.cluster.layout import Layout

_SIZES = st.sampled_from([1, 2, 3, 4, 5, 8])
# A byte takes a second, a hop nothing.
_SLOW = Fabric(link_bandwidth=1.0, network_bandwidth=1.0, link_seconds=0.0, network_seconds=0.0)
_HOPS_ONLY = Fabric(link_bandwidth=inf, network_bandwidth=inf, link_seconds=1.0, network_seconds=100.0)


def _ring_reduce_scatter(parts_by_device: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Play a ring: in each of n - 1 rounds every device sends one part on; values, and parts that each sent."""
    values, count = parts_by_device.copy(), len(parts_by_device)
    sent = [0] * count
    for round_ in range(count - 1):
        moving = [(device, (device - round_) % count) for device in range(count)]
        packets = [values[device, part] for device, part in moving]
        for (device, part), packet in zip(moving, packets, strict=True):
            values[(device + 1) % count, part] += packet
            sent[device] += 1
    return values, sent


@pytest.mark.parametrize("count", [2, 3, 8])
def test_bytes_are_those_of_a_ring_that_is_played_through(count: int) -> None:
    parts = np.random.default_rng(count).integers(0, 100, (count, count))
    values, sent = _ring_reduce_scatter(parts)
    owned = [values[(part - 1) % count, part] for part in range(count)]
    assert owned == parts.sum(axis=0).tolist()
    # `count` parts of one byte each: seconds are the parts that a device sent.
    group = Group(count, count)
    assert _SLOW.reduce_scatter(count, group) == pytest.approx(sent[0])
    assert _SLOW.all_gather(count, group) == pytest.approx(sent[0])
    assert _SLOW.all_reduce(count, group) == pytest.approx(2 * sent[0])


def test_hops_between_nodes_cost_more() -> None:
    assert _HOPS_ONLY.all_gather(1e9, Group(8, 8)) == 7
    # A ring through 4 nodes of 2 leaves a node 4 times, but the last hop back is not needed: of 7, 3 are within.
    assert _HOPS_ONLY.all_gather(1e9, Group(8, 2)) == 3 + 4 * 100
    assert _HOPS_ONLY.send(1e9, Group(2, 2)) == 1
    assert _HOPS_ONLY.send(1e9, Group(2, 1)) == 100


def test_nothing_is_sent_to_oneself() -> None:
    alone = Group(1, 1)
    for collective in (_SLOW.all_reduce, _SLOW.all_gather, _SLOW.reduce_scatter, _SLOW.send):
        assert collective(1e9, alone) == 0


@given(_SIZES, st.floats(1, 1e12))
def test_sequence_parallelism_sends_as_much_as_tensor_parallelism_alone(count: int, size: float) -> None:
    """Korthikanti et al. 2022: an all-reduce is a reduce-scatter and an all-gather."""
    group = Group(count, count)
    with_it, without = (tensor_seconds(_SLOW, group, size, sequence) for sequence in (True, False))
    assert with_it == pytest.approx(without)
    assert without == pytest.approx(2 * 2 * (count - 1) / count * size)


def test_a_ring_of_keys_passes_them_n_minus_1_times() -> None:
    assert context_seconds(_SLOW, Group(4, 4), 10.0) == 30
    assert context_seconds(_SLOW, Group(1, 1), 10.0) == 0


@given(st.permutations([1, 2, 4]), st.sampled_from([1, 2, 4, 8, 16]), st.sampled_from([4, 8]))
def test_groups_are_where_the_ranks_are(inner: list[int], data: int, node_size: int) -> None:
    """Number all ranks, tensor groups innermost and the pipeline outermost, and look where each group stands."""
    tensor, context, pipeline = inner
    layout = Layout(data=data, tensor=tensor, context=context, pipeline=pipeline)
    nodes = np.arange(layout.devices).reshape(pipeline, data, context, tensor) // node_size
    groups = place(layout, node_size)
    stands = {
        "tensor": nodes[0, 0, 0, :],
        "context": nodes[0, 0, :, 0],
        "gradients": nodes[0, :, :, 0].ravel(),
        "pipeline": nodes[:, 0, 0, 0],
    }
    for name, where in stands.items():
        group = getattr(groups, name)
        assert group.size == len(where)
        assert group.nodes == len(set(where.tolist())), name
        assert group.per_node == max(np.bincount(where)), name


def test_a_group_uses_the_ports_of_all_its_devices_on_a_node() -> None:
    fabric = Fabric(link_bandwidth=100.0, network_bandwidth=10.0, link_seconds=0.0, network_seconds=0.0)
    assert fabric.bandwidth(Group(8, 8)) == 100
    assert fabric.bandwidth(Group(2, 1)) == 10
    assert fabric.bandwidth(Group(32, 8)) == 80
