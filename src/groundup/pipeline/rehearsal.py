"""A training step of one process of many, without the others: real code on tensors that have no memory.

Tensors are fake: they have shapes and types, and operators on them compute nothing (torch._subclasses). So is the
process group: whatever is sent arrives at once. Model, wrappers, schedules, optimizer and step are those of a run;
what is counted is therefore what a run does, and not what a formula says.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

from groundup.objective import CAUSAL
from groundup.parallel.grid import Grid
from groundup.parallel.many import ManyDevices
from groundup.pipeline.watched_step import StepOfOne, WatchedStep
from groundup.plan.cluster.layout import Layout
from groundup.plan.hardware import Precision
from groundup.recipe import ParallelRecipe, TrainRecipe
from groundup.shape import Shape
from groundup.train.step import lay_out

# What the operators of a CPU keep is what those of a GPU with fused attention keep.
_DEVICE = "cpu"


def rehearse(
    shape: Shape,
    layout: Layout,
    train: TrainRecipe,
    parallel: ParallelRecipe,
    *,
    precision: Precision,
    rank: int = 0,
) -> StepOfOne:
    """One step of the process `rank` of this layout; weights and optimizer states are there already."""
    train = train.model_copy(
        update={"compile": "off", "micro_batch": layout.micro_batch, "recompute": layout.recompute}
    )
    with _alone_among(layout.devices, rank):
        grid = Grid(layout, _DEVICE)
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        objective = CAUSAL

        def kind(*positional: Any, **named: Any) -> ManyDevices:
            return _WithoutOthers(fake, *positional, **named)

        devices = lay_out(
            shape, objective, train, parallel, grid, precision=precision, device=_DEVICE, seed=0, kind=kind
        )
        windows = np.zeros((layout.batch, shape.context + 1), np.int64)
        with fake, _AnyValue():
            step = WatchedStep(objective, train, precision=precision, device=_DEVICE, devices=devices)
            return step.watched(windows)


@contextmanager
def _alone_among(world_size: int, rank: int) -> Iterator[None]:
    """A group of so many processes of which only this one is there."""
    logging.getLogger("torch.distributed.tensor").setLevel(logging.ERROR)  # as in `joined`
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world_size)
    try:
        yield
    finally:
        dist.destroy_process_group()


class _AnyValue(TorchDispatchMode):
    """Where a program asks a tensor for its value, which nobody knows, it is told 1."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1.0 if args[0].is_floating_point() else 1
        return func(*args, **(kwargs or {}))


class _WithoutOthers(ManyDevices):
    """A process's part of a model on fake tensors."""

    def __init__(self, fake: FakeTensorMode, shape: Shape, *others: Any, **named: Any):
        self._fake = fake
        super().__init__(shape, *others, **named)
        if self._pipeline is not None:
            self._pipeline.examples = _Examples(shape, self.grid, named["weights"] or torch.float32)

    def _fill(self, modules: list[nn.Module], seed: int, by_ddp: bool) -> list[nn.Module]:
        with self._fake, _AnyValue():
            modules = super()._fill(modules, seed, by_ddp)
        for module in modules:
            if isinstance(module, DistributedDataParallel):
                module.register_comm_hook(self.grid.tokens.get_group(), _sum_at_once)
        return modules


def _sum_at_once(state: object, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """As DistributedDataParallel does it; its own waits for an answer that a fake group does not give."""
    dist.all_reduce(bucket.buffer(), group=cast(dist.ProcessGroup, state))
    done: torch.futures.Future[Tensor] = torch.futures.Future()
    done.set_result(bucket.buffer())
    return done


@dataclass(frozen=True)
class _Examples:
    """Tensors like those that pass between a pipeline's stages, where no neighbour tells what it sends."""

    shape: Shape
    grid: Grid
    stream: torch.dtype

    def __call__(self, turn: int, micro_batch: int) -> dict[str, Tensor]:
        layout, rank = self.grid.layout, self.grid.rank("pipeline")
        length = self.shape.context // layout.context
        positions = length // (layout.tensor if layout.sequence else 1)
        stream = torch.empty(
            (micro_batch, positions, self.shape.width), dtype=self.stream, device="meta", requires_grad=True
        )
        ids = torch.empty((micro_batch, length), dtype=torch.int64, device="meta")
        loss = torch.empty(1, device="meta", requires_grad=True)
        is_first = rank == turn == 0
        is_last = rank == layout.pipeline - 1 and turn == layout.virtual_stages - 1
        return {"input_args": ids if is_first else stream, "output_args": loss if is_last else stream}
