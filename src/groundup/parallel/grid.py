"""The grid of processes: every process has a place on one axis for each way to divide the work."""

import torch
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from groundup.plan.cluster.layout import Layout

# Neighbours send each other the more, the further to the right: they should share a node.
AXES = ("pipeline", "replicate", "shard", "context", "tensor")


class Grid:
    """A mesh with an axis for each technique, of size 1 where it is not used: one code path serves all layouts.

    Processes that differ on the axes `replicate` and `shard` train on different sequences; with ZeRO the first
    have the same parts of the weights and the second different ones. `context` divides sequences, `tensor` the
    matrices, `pipeline` the layers.
    """

    def __init__(self, layout: Layout, device: str):
        self.layout, self.device = layout, device
        replicate = layout.replicate if layout.zero else layout.data
        sizes = (layout.pipeline, replicate, layout.data // replicate, layout.context, layout.tensor)
        self.mesh = init_device_mesh(torch.device(device).type, sizes, mesh_dim_names=AXES)
        # Processes that see other tokens: the gradients of all of them add up.
        self.tokens = self._flattened(("replicate", "shard", "context"), "tokens")
        self.shards = self._flattened(("shard", "context"), "shards")
        self.hybrid = (
            DeviceMesh._concatenate([self.mesh["replicate"], self.shards]) if replicate > 1 else self.shards
        )

    def size(self, axis: str) -> int:
        """Processes along an axis."""
        return self.mesh[axis].size()

    def rank(self, axis: str) -> int:
        """This process's place along an axis."""
        return self.mesh.get_local_rank(axis)

    def group(self, axis: str) -> ProcessGroup:
        """The processes that differ from this one on this axis only."""
        return self.mesh.get_group(axis)

    @property
    def data_size(self) -> int:
        """Processes, or groups of them, that train on sequences of their own."""
        return self.size("replicate") * self.size("shard")

    @property
    def data_rank(self) -> int:
        """Which of them this one is."""
        return self.rank("replicate") * self.size("shard") + self.rank("shard")

    def _flattened(self, axes: tuple[str, ...], name: str) -> DeviceMesh:
        return self.mesh[axes]._flatten(name)
