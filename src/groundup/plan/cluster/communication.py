"""What devices send each other in a step: bytes by the layout, seconds by where a group's devices stand.

Ranks are numbered with tensor groups innermost, then context, then data, and the pipeline outermost, as
Megatron-LM, torchtitan and nanotron do: what is sent most often stays within a node, and a stage's neighbour, to
which the least is sent, is the farthest away.
"""

from dataclasses import dataclass

from groundup.plan.cluster.layout import Layout

# Devices that fill the links within a node; the constants are measured on nodes of so many.
_FULL_NODE = 8


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
    """The links as collectives find them: bytes/s that a device sends, and seconds of one hop.

    Within a node a group of n devices gets `link_bandwidth` * (n / 8)^link_sharing, at most all of it: few
    devices do not fill the lanes. Between nodes a group of m devices a node on N nodes gets `network_bandwidth`
    * m^port_sharing / N^congestion: one group does not use all ports of its nodes as well as several groups
    beside each other do, and the more nodes must keep step, the longer each waits for the slowest.
    """

    link_bandwidth: float
    network_bandwidth: float
    link_seconds: float
    network_seconds: float
    link_sharing: float = 0.0
    port_sharing: float = 1.0
    congestion: float = 0.0

    def bandwidth(self, group: Group) -> float:
        """Bytes/s of a ring through the group, over all its devices on a node together."""
        if group.nodes == 1:
            return self.link_bandwidth * min(1.0, group.size / _FULL_NODE) ** self.link_sharing
        ports = self.network_bandwidth * group.per_node**self.port_sharing / group.nodes**self.congestion
        return min(self.link_bandwidth, ports)

    def all_gather(self, size: float, group: Group) -> float:
        """Seconds until each device has all `size` bytes, of which it had its share: a ring of n - 1 hops."""
        if group.size == 1:
            return 0.0
        between_nodes = group.nodes if group.nodes > 1 else 0
        hops = (group.size - 1 - between_nodes) * self.link_seconds + between_nodes * self.network_seconds
        return size * (group.size - 1) / group.size / self.bandwidth(group) + hops

    def reduce_scatter(self, size: float, group: Group) -> float:
        """Seconds until each device has the sum of its share of `size` bytes: an all-gather backwards."""
        return self.all_gather(size, group)

    def all_reduce(self, size: float, group: Group) -> float:
        """Seconds until each device has the sum of all `size` bytes: one of each, 2 (n - 1) / n of the bytes."""
        return self.reduce_scatter(size, group) + self.all_gather(size, group)

    def send(self, size: float, group: Group) -> float:
        """Seconds from one device of the group to the next one."""
        if group.size == 1:
            return 0.0
        if group.nodes == 1:
            return size / self.link_bandwidth + self.link_seconds
        return size / self.network_bandwidth + self.network_seconds


@dataclass(frozen=True)
class Placement:
    """The groups that one device belongs to. `gradients` are summed over data and context together.

    With ZeRO that is done in two parts: `shards` divide them among each other, `copies` have the same part.
    """

    tensor: Group
    context: Group
    gradients: Group
    shards: Group
    copies: Group
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
        shards=group(layout.zero_devices, tensor),
        copies=group(layout.replicate, tensor * layout.zero_devices),
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


def gradient_seconds(fabric: Fabric, groups: Placement, zero: int, parameters: float, bytes_each: float) -> float:
    """Summing the gradients of `parameters`, of so many bytes each, over the replicas: once, all-reduce.

    With ZeRO a reduce-scatter; where there are copies of the parts, these are then summed over the copies.
    """
    size = parameters * bytes_each
    if not zero:
        return fabric.all_reduce(size, groups.gradients)
    among_copies = fabric.all_reduce(size / groups.shards.size, groups.copies)
    return fabric.reduce_scatter(size, groups.shards) + among_copies


def weight_seconds(fabric: Fabric, group: Group, parameters: float, weight_bytes: float) -> float:
    """Gathering the weights that ZeRO keeps in parts (Rajbhandari et al. 2020, arXiv:1910.02054): once."""
    return fabric.all_gather(parameters * weight_bytes, group)
