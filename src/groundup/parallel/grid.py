"""The grid of processes: every process has a place on one axis for each way to divide the work."""

from functools import cached_property

import torch
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from groundup.plan.cluster.layout import Layout

# Neighbours send each other the more, the further to the right: they should share a node.
AXES = ("pipeline", "replicate", "shard", "context", "expert", "tensor")


class Grid:
    """A mesh with an axis for each technique, of size 1 where it is not used: one code path serves all layouts.

    Processes that differ on the axes `replicate`, `shard` and `expert` train on different sequences; with ZeRO the
    first have the same parts of the weights and the others different ones. Those that differ on `expert` have
    different experts. `context` divides sequences, `tensor` the matrices, `pipeline` the layers.
    """

    def __init__(self, layout: Layout, device: str):
        self.layout, self.device = layout, device
        data = layout.data // layout.expert
        replicate = layout.replicate if layout.zero else data
        sizes = (layout.pipeline, replicate, data // replicate, layout.context, layout.expert, layout.tensor)
        self.mesh = init_device_mesh(torch.device(device).type, sizes, mesh_dim_names=AXES)
        # Processes that see other tokens: the gradients of all of them add up.
        self.tokens = self._flattened(("replicate", "shard", "context", "expert"))

    @cached_property
    def hybrid(self) -> DeviceMesh:
        """ZeRO divides weights over its last axis, and keeps copies on the one before, if there is one."""
        return self._hybrid("context", "expert")

    @cached_property
    def expert_hybrid(self) -> DeviceMesh:
        """The same for the weights of experts: the processes that have the same ones."""
        return self._hybrid("context")

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
        return self.size("replicate") * self.size("shard") * self.size("expert")

    @property
    def data_rank(self) -> int:
        """Which of them this one is."""
        group = self.rank("replicate") * self.size("shard") + self.rank("shard")
        return group * self.size("expert") + self.rank("expert")

    def _flattened(self, axes: tuple[str, ...]) -> DeviceMesh:
        return self.mesh[axes]._flatten() if len(axes) > 1 else self.mesh[axes]

    def _hybrid(self, *axes: str) -> DeviceMesh:
        divides = self.layout.zero > 0
        copies = self._flattened(("replicate",) if divides else ("replicate", *axes))
        shards = self._flattened(("shard", *axes) if divides else ("shard",))
        return DeviceMesh._concatenate([copies, shards]) if copies.size() > 1 else shards
