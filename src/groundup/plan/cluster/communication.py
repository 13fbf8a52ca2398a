"""What devices send each other in a step: bytes by the layout, seconds by where a group's devices stand.

Ranks are numbered with tensor groups innermost, then context, then data, and the pipeline outermost, as Megatron-LM,
torchtitan and nanotron do: what is sent most often stays within a node, and a stage's neighbour, to which the least
is sent, is the farthest away.
"""

import math
from dataclasses import dataclass

from groundup.plan.cluster.layout import Layout

# Gradients are reduced in pieces of this size while the backward pass goes on (the default of DDP in PyTorch).
BUCKET_BYTES = 25 << 20


@dataclass(frozen=True)
class Group:
    """Devices that communicate with each other: how many, and how many of them share a node."""

    size: int
    per_node: int

    @property
    def nodes(self) -> int:
        """Nodes that the group reaches over."""
        return -(-self.size // self.per_node)


@dataclass(frozen=True)
class Fabric:
    """The links as collectives find them: bytes/s that a device sends, and seconds of one hop."""

    link_bandwidth: float
    network_bandwidth: float
    link_seconds: float
    network_seconds: float
    port_sharing: float = 1.0

    def bandwidth(self, group: Group) -> float:
        """Bytes/s of a ring through the group; across nodes it uses the network ports of all its devices there.

        One group does not use all of them as well as several groups beside each other, hence the exponent.
        """
        if group.nodes == 1:
            return self.link_bandwidth
        return min(self.link_bandwidth, self.network_bandwidth * group.per_node**self.port_sharing)

    def all_gather(self, size: float, group: Group, messages: float = 1.0) -> float:
        """Seconds until each device has all `size` bytes, of which it had its share: a ring of n - 1 hops."""
        if group.size == 1:
            return 0.0
        return self._moving(size, group) + messages * self._ring_seconds(group)

    def reduce_scatter(self, size: float, group: Group, messages: float = 1.0) -> float:
        """Seconds until each device has the sum of its share of `size` bytes: an all-gather backwards."""
        return self.all_gather(size, group, messages)

    def all_reduce(self, size: float, group: Group, messages: float = 1.0) -> float:
        """Seconds until each device has the sum of all `size` bytes: as many bytes as both of the others.

        Across nodes it goes along a tree of depth log2(nodes), which NCCL takes where the ring would be longer.
        """
        if group.size == 1:
            return 0.0
        ring = 2 * self._ring_seconds(group)
        tree = 2 * (group.per_node * self.link_seconds + math.log2(group.nodes) * self.network_seconds)
        return 2 * self._moving(size, group) + messages * min(ring, tree)

    def send(self, size: float, group: Group) -> float:
        """Seconds from one device of the group to the next one."""
        if group.size == 1:
            return 0.0
        if group.nodes == 1:
            return size / self.link_bandwidth + self.link_seconds
        return size / self.network_bandwidth + self.network_seconds

    def _moving(self, size: float, group: Group) -> float:
        """Seconds of the bytes: (n - 1) / n of them within a node; a node's devices get (nodes - 1) / nodes from afar."""
        parts = group.size if group.nodes == 1 else group.nodes
        return size * (parts - 1) / parts / self.bandwidth(group)

    def _ring_seconds(self, group: Group) -> float:
        hops_between_nodes = group.nodes if group.nodes > 1 else 0
        return (group.size - 1 - hops_between_nodes) * self.link_seconds + hops_between_nodes * self.network_seconds


@dataclass(frozen=True)
class Placement:
    """The groups that one device belongs to. `gradients` are summed over data and context together."""

    tensor: Group
    context: Group
    gradients: Group
    pipeline: Group


def place(layout: Layout, node_size: int) -> Placement:
    """The groups of a layout on nodes of `node_size` devices."""

    def group(size: int, inner: int) -> Group:
        return Group(size, min(size, max(1, node_size // inner)))

    tensor, replicas = layout.tensor, layout.context * layout.data
    return Placement(
        tensor=group(tensor, 1),
        context=group(layout.context, tensor),
        gradients=group(replicas, tensor),
        pipeline=group(layout.pipeline, tensor * replicas),
    )


def tensor_seconds(fabric: Fabric, group: Group, size: float, sequence: bool) -> float:
    """One block's tensor-parallel communication in one direction, of hidden states of `size` bytes.

    After attention and after the feed-forward part: two all-reduces forward, two backward, four a layer; with
    sequence parallelism each is an all-gather and a reduce-scatter, of as many bytes together (Korthikanti et al.
    2022, arXiv:2205.05198, section 4.2).
    """
    if sequence:
        return 2 * (fabric.all_gather(size, group) + fabric.reduce_scatter(size, group))
    return 2 * fabric.all_reduce(size, group)


def context_seconds(fabric: Fabric, group: Group, size: float) -> float:
    """One block's ring of keys and values of `size` bytes a device, forward (Liu et al. 2023, arXiv:2310.01889).

    Each device passes on what it got n - 1 times; backward it is twice that, for the gradients travel along.
    """
    return (group.size - 1) * fabric.send(size, group)


def gradient_seconds(
    fabric: Fabric, group: Group, zero: int, parameters: float, gradient_bytes: float
) -> float:
    """Summing the gradients of `parameters` over the replicas: once, all-reduce, or with ZeRO a reduce-scatter."""
    size = parameters * gradient_bytes
    buckets = max(1.0, size / BUCKET_BYTES)
    if zero == 0:
        return fabric.all_reduce(size, group, buckets)
    return fabric.reduce_scatter(size, group, buckets)


def weight_seconds(fabric: Fabric, group: Group, parameters: float, weight_bytes: float) -> float:
    """Gathering the weights that ZeRO keeps in parts (Rajbhandari et al. 2020, arXiv:1910.02054): once."""
    size = parameters * weight_bytes
    return fabric.all_gather(size, group, max(1.0, size / BUCKET_BYTES))


def sent_bytes(
    layout: Layout, parameters: float, hidden_bytes: float, layers: float, gradient_bytes: float, weight_bytes: float
) -> dict[str, float]:
    """Bytes that one device sends in a step, by the kind of group.

    Args:
        layout: sizes of the groups.
        parameters: on this device.
        hidden_bytes: of one micro-batch's hidden states before tensor parallelism divides them.
        layers: on this device.
        gradient_bytes: of one parameter's gradient as it is summed.
        weight_bytes: of one parameter as it is gathered.
    """
    def share(size: int) -> float:
        return (size - 1) / size

    replicas = layout.data * layout.context
    passes = layout.accumulation if layout.zero == 3 else 1
    reductions = layout.accumulation if layout.zero >= 2 else 1
    gradients = parameters * gradient_bytes * share(replicas)
    weights = parameters * weight_bytes * share(replicas)
    data = {
        0: 2 * gradients,
        1: gradients + weights,
        2: reductions * gradients + weights,
        3: reductions * gradients + 2 * passes * weights,
    }[layout.zero]
    boundary = 2 * hidden_bytes / layout.tensor if layout.pipeline > 1 else 0.0
    return {
        "tensor": layout.accumulation * layers * 8 * hidden_bytes * share(layout.tensor),
        "pipeline": layout.accumulation * boundary * layout.virtual_stages,
        "data": data,
    }
