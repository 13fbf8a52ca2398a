"""Data parallelism: every process has sequences of its own, and their gradients are averaged.

| zero | each process keeps          | sent in a step, for parameters of S bytes on N processes              |
|------|-----------------------------|-----------------------------------------------------------------------|
| 0    | everything                  | 2 (N-1)/N S: gradients are reduced and spread, while others are made  |
| 1    | a part of optimizer's state | (N-1)/N S of gradients, (N-1)/N S of weights                          |
| 2    | also of gradients           | the same, but gradients after every micro-batch                       |
| 3    | also of weights             | about 3 (N-1)/N S: weights are gathered for each pass, and let go     |

ZeRO: Rajbhandari et al. 2020, arXiv:1910.02054; here by PyTorch's FSDP2 (Zhao et al. 2023, arXiv:2304.11277).
Between steps it keeps only a part of everything; what is whole in which phase of a step is the difference above.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn
from torch.distributed._composable.replicate_with_fsdp import replicate
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.fsdp._fully_shard._fsdp_common import FSDPMeshInfo, HSDPMeshInfo, ShardPlacementResult
from torch.distributed.tensor import Shard
from torch.nn.parallel import DistributedDataParallel

from groundup.parallel.divided import local
from groundup.parallel.expert import DividedExperts
from groundup.parallel.grid import Grid
from groundup.plan.cluster.layout import Zero
from groundup.recipe import ParallelRecipe

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def overlapped(learner: nn.Module, grid: Grid, settings: ParallelRecipe) -> DistributedDataParallel:
    """ZeRO-0 of a model that is not divided otherwise: buckets of gradients travel while the rest is computed.

    The module must have its memory, with the same weights in every process.
    """
    return DistributedDataParallel(
        learner,
        process_group=grid.tokens.get_group(),
        bucket_cap_mb=settings.bucket_mb,
        gradient_as_bucket_view=True,
        # Positions differ between processes that divide sequences.
        forward_sync_buffers=False,
        init_sync=False,
    )


def sharded(
    learner: nn.Module,
    blocks: Sequence[nn.Module],
    grid: Grid,
    settings: ParallelRecipe,
    weights: torch.dtype | None,
) -> nn.Module:
    """Any ZeRO around any model, in place: `blocks` are gathered and reduced by buckets, the rest as one.

    The module may be on the meta device. `weights` is the type that weights are gathered and computed in, where it
    is not their own.
    """
    reduce = _DTYPES[settings.reduce]
    precision = MixedPrecisionPolicy(param_dtype=weights, reduce_dtype=reduce)
    offload = CPUOffloadPolicy(pin_memory=grid.device != "cpu") if settings.offload else OffloadPolicy()
    for bucket in _buckets(blocks, settings.bucket_mb):
        _wrap(bucket, grid, settings, precision, offload, last=False)
    _wrap([learner], grid, settings, precision, offload, last=True)
    return learner


def _wrap(
    modules: list[nn.Module],
    grid: Grid,
    settings: ParallelRecipe,
    precision: MixedPrecisionPolicy,
    offload: OffloadPolicy,
    last: bool,
) -> None:
    target = modules[0] if len(modules) == 1 else modules
    if not settings.zero and grid.layout.expert == 1:
        replicate(target, mesh=grid.tokens, mp_policy=precision, offload_policy=offload)
        return
    # What comes last in the forward pass comes first in the backward pass: to let it go would be for nothing.
    again = settings.zero == 3 and not last
    placing = _among_copies(modules, grid) if grid.layout.expert > 1 else None
    fully_shard(
        target,
        mesh=grid.hybrid,
        reshard_after_forward=again,
        shard_placement_fn=placing,
        mp_policy=precision,
        offload_policy=offload,
    )


def _among_copies(modules: list[nn.Module], grid: Grid) -> Callable[[nn.Parameter], ShardPlacementResult | None]:
    """Divides the weights of experts over the processes that have the same ones, and all else as usual.

    A part of each expert, since there may be fewer experts than copies.
    """
    divided = (part for module in modules for part in module.modules() if isinstance(part, DividedExperts))
    experts = {parameter for part in divided for parameter in part.parameters()}
    mesh = grid.expert_hybrid
    info = HSDPMeshInfo(mesh, 1, 0) if mesh.ndim == 2 else FSDPMeshInfo(mesh, 0)
    return lambda parameter: ShardPlacementResult(Shard(1), info) if parameter in experts else None


def _buckets(blocks: Sequence[nn.Module], megabytes: float) -> Iterator[list[nn.Module]]:
    """Neighbours together, as long as they are not more than so many megabytes of float32."""
    bucket: list[nn.Module] = []
    size = 0.0
    for block in blocks:
        own = sum(local(parameter).numel() for parameter in block.parameters()) * 4 / 1e6
        if bucket and size + own > megabytes:
            yield bucket
            bucket, size = [], 0.0
        bucket.append(block)
        size += own
    if bucket:
        yield bucket


def prepare_backward(wrapped: nn.Module, is_last: bool, zero: Zero) -> None:
    """Before a micro-batch: whether its backward pass averages gradients, and lets go of what was gathered."""
    if isinstance(wrapped, DistributedDataParallel):
        wrapped.require_backward_grad_sync = is_last
    elif isinstance(wrapped, FSDPModule):
        # Between micro-batches there is no room for whole gradients from ZeRO-2 on, for whole weights from 3 on.
        wrapped.set_requires_gradient_sync(is_last or zero >= 2)
        wrapped.set_reshard_after_backward(is_last or zero == 3)


def let_go(wrapped: nn.Module) -> None:
    """Behind a forward pass without a backward pass: of weights that were gathered, keep the own part only.

    The next pass would take those for the weights, whatever became of the parts meanwhile.
    """
    for module in wrapped.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
