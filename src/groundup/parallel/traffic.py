"""What one process sends the others: every collective of torch.distributed that runs, its group and its size.

PyTorch's dispatcher tells of them: functional collectives of DTensor, what FSDP2 and pipelines send, and buckets
of DistributedDataParallel. It does not tell of what runs in compiled code.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from torch import Tensor
from torch._C._distributed_c10d import _resolve_process_group
from torch.distributed import ProcessGroup, get_process_group_ranks
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from groundup.parallel.grid import AXES, Grid

Kind: TypeAlias = Literal["all-reduce", "reduce-scatter", "all-gather", "all-to-all", "broadcast", "send"]


@dataclass(frozen=True)
class Collective:
    """One collective as one process of its group takes part in it.

    `bytes` are of the whole tensor: what is summed, what all have in the end, or what is sent to a neighbour.
    `axis` names the axes of the grid on which the group's processes differ ("shard", "replicate+context"); it is
    empty where a group has one process, or no grid is known.
    """

    kind: Kind
    bytes: int
    group_size: int
    axis: str

    @property
    def sent_bytes(self) -> float:
        """What a process sends in a ring, (N-1)/N of the bytes, for a sum that all get twice that.

        Bandwidth-optimal algorithms send as much (Patarasuk and Yuan 2009, J. Parallel Distrib. Comput. 69(2)).
        """
        if self.kind == "send":
            return float(self.bytes)
        passes = 2 if self.kind == "all-reduce" else 1
        return passes * (self.group_size - 1) / self.group_size * self.bytes


# By the operator's name: what it does, and which of its arguments holds what a process puts in.
_OPERATORS: dict[str, tuple[Kind, int]] = {
    "c10d::allreduce_": ("all-reduce", 0),
    "c10d::allreduce_coalesced_": ("all-reduce", 0),
    "c10d::_allgather_base_": ("all-gather", 1),
    "c10d::allgather_": ("all-gather", 1),
    "c10d::allgather_into_tensor_coalesced_": ("all-gather", 1),
    "c10d::_reduce_scatter_base_": ("reduce-scatter", 1),
    "c10d::reduce_scatter_": ("reduce-scatter", 1),
    "c10d::reduce_scatter_tensor_coalesced_": ("reduce-scatter", 1),
    "c10d::alltoall_": ("all-to-all", 1),
    "c10d::alltoall_base_": ("all-to-all", 1),
    "c10d::broadcast_": ("broadcast", 0),
    "c10d::send": ("send", 0),
    "_c10d_functional::all_reduce": ("all-reduce", 0),
    "_c10d_functional::all_reduce_": ("all-reduce", 0),
    "_c10d_functional::all_reduce_coalesced": ("all-reduce", 0),
    "_c10d_functional::all_gather_into_tensor": ("all-gather", 0),
    "_c10d_functional::all_gather_into_tensor_out": ("all-gather", 0),
    "_c10d_functional::all_gather_into_tensor_coalesced": ("all-gather", 0),
    "_c10d_functional::reduce_scatter_tensor": ("reduce-scatter", 0),
    "_c10d_functional::reduce_scatter_tensor_coalesced": ("reduce-scatter", 0),
    "_c10d_functional::all_to_all_single": ("all-to-all", 0),
    "_c10d_functional::broadcast": ("broadcast", 0),
    "_dtensor::shard_dim_alltoall": ("all-to-all", 0),
}


class Traffic(TorchDispatchMode):
    """A context in which what this process sends is written down, in the order in which it is begun.

    `grid` gives the groups the names of its axes. Its own small sums (of losses, counts and norms) are among the
    records: a few bytes each.
    """

    def __init__(self, grid: Grid | None = None):
        super().__init__()
        self.records: list[Collective] = []
        self._grid = grid
        self._axes: dict[str, str] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # it comes again, as what it sends and computes on this process
        result = func(*args, **(kwargs or {}))
        name = func.name().partition(".")[0] if hasattr(func, "name") else ""
        if name in _OPERATORS:
            self._record(*_OPERATORS[name], func, args, kwargs or {})
        return result

    def _record(self, kind: Kind, place: int, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
        group = _group(given)
        own = _bytes(tree_leaves(list(given.values())[place]))
        whole = own * group.size() if kind == "all-gather" else own
        self.records.append(Collective(kind, whole, group.size(), self._axis(group)))

    def _axis(self, group: ProcessGroup) -> str:
        if self._grid is None:
            return ""
        if group.group_name not in self._axes:
            # init_device_mesh numbers the processes in the order of the axes.
            places = np.unravel_index(get_process_group_ranks(group), self._grid.mesh.shape)
            differing = (axis for axis, place in zip(AXES, places, strict=True) if len(set(place)) > 1)
            self._axes[group.group_name] = "+".join(differing)
        return self._axes[group.group_name]


def _group(given: dict[str, Any]) -> ProcessGroup:
    """Operators are given their group, or its name."""
    if "process_group" in given:
        group = given["process_group"]
        return group if isinstance(group, ProcessGroup) else ProcessGroup.unbox(group)
    return _resolve_process_group(given["group_name"])


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if isinstance(tensor, Tensor))
