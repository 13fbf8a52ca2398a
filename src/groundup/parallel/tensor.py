"""Tensor parallelism: the matrices of every layer divided over devices, which meet twice a block.

Columns first, then rows (Shoeybi et al. 2019, arXiv:1909.08053): each device has some of the heads and some of
the hidden units, and what they give is added up. With sequence parallelism (Korthikanti et al. 2022,
arXiv:2205.05198) the residual stream and its norms are divided too, by position: the sum becomes a reduce-scatter
before the norm and an all-gather behind it. The vocabulary is divided by rows, in the embedding, the unembedding
and the loss.
"""

from functools import partial
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import (
    DTensor,
    Partial,
    Placement,
    Replicate,
    Shard,
    distribute_module,
    distribute_tensor,
)
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from groundup.model.decoder import Decoder
from groundup.objective.vocabulary import VocabularyPart


def tensor_parallel(model: Decoder, mesh: DeviceMesh, sequence: bool) -> Decoder:
    """Divide `model`, which may be on the meta device, over a mesh of one axis, in place; returns it.

    Parameters become DTensors of their old names and whole shapes. With `sequence` the residual stream (B, T, D)
    between blocks has T / tensor positions on each device.
    """
    stream: Placement = Shard(1) if sequence else Replicate()
    norm = SequenceParallel() if sequence else _Replicated()
    whole = partial(PrepareModuleInput, desired_input_layouts=(Replicate(),))
    plan: dict[str, ParallelStyle] = {
        "embedding": _VocabularyParallel(stream),
        "positions": RowwiseParallel(  # (T, D)
            input_layouts=Replicate(), output_layouts=Shard(0) if sequence else Replicate()
        ),
        "norm": norm,
        "unembedding": ColwiseParallel(),
        "blocks.*.attention_norm": norm,
        "blocks.*.attention": PrepareModuleInput(
            input_layouts=(stream, None, None, None), desired_input_layouts=(Replicate(), None, None, None)
        ),
        "blocks.*.attention.query": ColwiseParallel(),
        "blocks.*.attention.key": ColwiseParallel(),
        "blocks.*.attention.value": ColwiseParallel(),
        # Over heads (B, H, T, d): each device has some of them.
        "blocks.*.attention.query_norm": SequenceParallel(sequence_dim=1, use_local_output=True),
        "blocks.*.attention.key_norm": SequenceParallel(sequence_dim=1, use_local_output=True),
        "blocks.*.attention.output": RowwiseParallel(output_layouts=stream),
        "blocks.*.feedforward_norm": norm,
        "blocks.*.feedforward": whole(input_layouts=(stream,)),
        "blocks.*.feedforward.gate": ColwiseParallel(),
        "blocks.*.feedforward.up": ColwiseParallel(),
        "blocks.*.feedforward.down": RowwiseParallel(output_layouts=stream),
    }
    present = {_pattern(name) for name, _ in model.named_modules()}
    parallelize_module(model, mesh, {name: style for name, style in plan.items() if name in present})
    if model.norm is not None:
        model.norm.register_forward_hook(_whole_stream)
    return model


def _pattern(name: str) -> str:
    """`blocks.3.attention` -> `blocks.*.attention`."""
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def _whole_stream(_norm: nn.Module, _inputs: Any, x_BTD: DTensor) -> Tensor:
    """Every device needs all positions for its part of the vocabulary, and has but a part of their gradient."""
    return x_BTD.redistribute(placements=[Replicate()]).to_local(grad_placements=[Partial()])


class _VocabularyParallel(ParallelStyle):
    """Each device looks up the ids that it has; for the others it adds zero.

    PyTorch's RowwiseParallel does the same, but makes the gradient of the whole matrix on every device.
    """

    def __init__(self, output: Placement):
        super().__init__()
        self._output = output

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        weight = distribute_tensor(
            cast(Tensor, module.weight).detach(), device_mesh, [Shard(0)], src_data_rank=None
        )
        module.weight = nn.Parameter(weight)
        module.forward = partial(_look_up, module, self._output)
        return module


def _look_up(module: nn.Module, output: Placement, ids_BT: Tensor) -> Tensor:
    weight_VD, part = VocabularyPart.of(cast(Tensor, module.weight))
    assert part is not None
    places, are_here = part.place(ids_BT, len(weight_VD))
    x_BTD = F.embedding(places, weight_VD) * are_here[..., None]
    summed = DTensor.from_local(x_BTD, cast(DTensor, module.weight).device_mesh, [Partial()], run_check=False)
    return summed.redistribute(placements=[output]).to_local()


class _Replicated(ParallelStyle):
    """The same on every device, as DTensors: norms and clipping need all parameters to be on one mesh."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        return distribute_module(module, device_mesh, None, cast(Any, _as_replicated))


def _as_replicated(_module: nn.Module, inputs: tuple[Any, ...], mesh: DeviceMesh) -> tuple[Any, ...]:
    first, *others = inputs
    if not isinstance(first, DTensor):
        first = DTensor.from_local(first, mesh, [Replicate()], run_check=False)
    return (first, *others)
