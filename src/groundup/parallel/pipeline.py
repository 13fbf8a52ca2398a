"""Pipeline parallelism: the layers divided over devices, and micro-batches that follow each other through them.

GPipe (Huang et al. 2019, arXiv:1811.06965) takes all micro-batches forward, then all back; 1F1B (Narayanan et al.
2021, arXiv:2104.04473) alternates, and keeps fewer activations; interleaved (the same, section 2.2) gives each
device several parts of the model, and idles less. The schedules are PyTorch's (torch.distributed.pipelining).
"""

from collections.abc import Callable
from itertools import accumulate
from typing import Any, TypeAlias, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining import (
    PipelineStage,
    Schedule1F1B,
    ScheduleGPipe,
    ScheduleInterleaved1F1B,
    ScheduleLoopedBFS,
)

from groundup.model.decoder import Decoder
from groundup.objective import Batch, Objective
from groundup.parallel.divided import local
from groundup.parallel.grid import Grid
from groundup.parallel.learner import Computing
from groundup.plan.cluster.stages import stages as plan_stages

AnySchedule: TypeAlias = ScheduleGPipe | Schedule1F1B | ScheduleInterleaved1F1B | ScheduleLoopedBFS


class Stage(nn.Module):
    """Some neighbouring blocks of a decoder, with the embedding before the first and the loss behind the last.

    Ids (B, T) go in at the first, (B, T, D) everywhere else; the last gives the sum of its targets' losses times
    `share`, (1,): what a process adds to the step's mean is known before the step.
    """

    share = 1.0

    def __init__(
        self, model: Decoder, blocks: list[nn.Module], is_first: bool, is_last: bool, objective: Objective,
        computing: Computing,
    ):  # fmt: skip
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.rotary, self.mask = model.rotary, model.mask
        self.embedding = model.embedding if is_first or (is_last and model.unembedding is None) else None
        self.positions = model.positions if is_first else None
        self.norm = model.norm if is_last else None
        self.unembedding = model.unembedding if is_last else None
        self._embed = model.embed if is_first else None
        self._objective, self._computing = objective, computing

    def forward(self, x: Tensor, targets_BT: Tensor, documents_BT: Tensor | None = None) -> Tensor:
        """(B, T) int64 or (B, T, D) -> (B, T, D), or at the last stage (1,)."""
        with self._computing():
            if self.norm is None:
                return self._through(x, documents_BT)
            loss = self._objective.loss(self, Batch(x, targets_BT, documents_BT))
            return torch.stack([loss.mean * loss.num_targets * self.share])

    def features(self, x: Tensor, *, documents_BT: Tensor | None = None) -> Tensor:
        """What the objective reads: the residual stream (B, T, D) behind the norm."""
        assert self.norm is not None
        return cast(Tensor, self.norm(self._through(x, documents_BT)))

    @property
    def unembedding_weight(self) -> Tensor:
        """The matrix (V, D) that gives logits."""
        matrix = self.unembedding or self.embedding
        assert matrix is not None
        return matrix.weight

    def _through(self, x: Tensor, documents_BT: Tensor | None) -> Tensor:
        x_BTD = x if self._embed is None else self._embed(x)
        mask = self.mask(documents_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, self.rotary, None, mask)
        return x_BTD


def keep_own_layers(model: Decoder, grid: Grid) -> list[list[nn.Module]]:
    """Take from `model` what other processes of the pipeline have; the blocks of each stage that this one has.

    What stays keeps its name; where it is cut, `plan.cluster.stages` says.
    """
    layout, rank = grid.layout, grid.rank("pipeline")
    sizes = [stage.layers for stage in plan_stages(model.shape, layout.pipeline * layout.virtual_stages)]
    numbers = [range(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True)]
    own = [numbers[rank + turn * layout.pipeline] for turn in range(layout.virtual_stages)]
    stages = [[model.blocks[number] for number in stage] for stage in own]
    kept = {str(number) for stage in own for number in stage}
    for name in list(model.blocks._modules):
        if name not in kept:
            del model.blocks._modules[name]
    is_first, is_last = rank == 0, rank == layout.pipeline - 1
    if not is_first:
        model.positions = None
        if not (is_last and model.unembedding is None):
            model.embedding = cast(nn.Embedding, None)
    if not is_last:
        model.norm, model.unembedding = cast(nn.Module, None), None
    return stages


def make_stages(
    model: Decoder, blocks: list[list[nn.Module]], objective: Objective, computing: Computing, grid: Grid
) -> list[Stage]:
    """The stages that this process has, of `model` as `keep_own_layers` left it."""
    is_first, is_last = grid.rank("pipeline") == 0, grid.rank("pipeline") == grid.size("pipeline") - 1
    last_turn = len(blocks) - 1
    return [
        Stage(model, part, is_first and turn == 0, is_last and turn == last_turn, objective, computing)
        for turn, part in enumerate(blocks)
    ]


class Pipeline:
    """Takes micro-batches through the stages of all processes, by the layout's schedule."""

    def __init__(self, stages: list[Stage], grid: Grid):
        self.stages, self._grid, self._layout = stages, grid, grid.layout
        self._rank, self._size = grid.rank("pipeline"), grid.size("pipeline")
        self._schedules: dict[tuple[bool, int, int], AnySchedule] = {}
        # Of a stage and a size of micro-batches: tensors like its `input_args` and `output_args`. Where there are
        # none, neighbours tell each other.
        self.examples: Callable[[int, int], dict[str, Any]] | None = None

    def train(self, batch: Batch, num_micro_batches: int, share: float) -> float:
        """Forward and backward; on the last process the sum of the losses times `share`, elsewhere 0."""
        schedule = self._schedule(True, num_micro_batches, len(batch.inputs_BT) // num_micro_batches)
        nats = self._step(schedule, batch, share)
        if isinstance(schedule, ScheduleInterleaved1F1B):
            # The schedules of one stage a process do this themselves.
            for part in schedule._stages:
                part.perform_reduce_grad(1)
        return nats

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> float:
        """Forward only, a sequence at a time; on the last process the sum of the losses, elsewhere 0."""
        return self._step(self._schedule(False, len(batch.inputs_BT), 1), batch, 1.0)

    def _step(self, schedule: AnySchedule, batch: Batch, share: float) -> float:
        for stage in self.stages:
            stage.share = share
        beside: dict[str, Any] = {"targets_BT": batch.targets_BT}
        if batch.documents_BT is not None:
            beside["documents_BT"] = batch.documents_BT
        losses: list[Tensor] = []
        schedule.step(
            *((batch.inputs_BT,) if self._rank == 0 else ()),
            target=batch.targets_BT if self._rank == self._size - 1 else None,
            losses=losses,
            return_outputs=False,
            **beside,
        )
        return sum(float(loss.detach()) for loss in losses)

    def _schedule(self, trains: bool, num_micro_batches: int, micro_batch: int) -> AnySchedule:
        """The schedule for so many micro-batches; its stages keep buffers of their size."""
        key = (trains, num_micro_batches, micro_batch)
        if key not in self._schedules:
            self._schedules[key] = self._new_schedule(*key)
        return self._schedules[key]

    def _new_schedule(self, trains: bool, num_micro_batches: int, micro_batch: int) -> AnySchedule:
        parts: list[Any] = [self._part(turn, micro_batch) for turn in range(len(self.stages))]
        if self._layout.schedule == "interleaved":
            many = ScheduleInterleaved1F1B if trains else ScheduleLoopedBFS
            schedule: AnySchedule = many(parts, num_micro_batches, _as_it_is, scale_grads=False)
        else:
            one = Schedule1F1B if self._layout.schedule == "1f1b" and trains else ScheduleGPipe
            schedule = one(parts[0], num_micro_batches, _as_it_is, scale_grads=False)
        schedule._has_backward = trains
        return schedule

    def _part(self, turn: int, micro_batch: int) -> PipelineStage:
        index, number = self._rank + turn * self._size, self._size * len(self.stages)
        device, group = torch.device(self._grid.device), self._grid.group("pipeline")
        known: dict[str, Any] = self.examples(turn, micro_batch) if self.examples else {}
        return PipelineStage(self.stages[turn], index, number, device, group=group, **known)


def _as_it_is(output: Tensor, _target: Tensor) -> Tensor:
    """The last stage has taken the loss already."""
    return output.squeeze(0)


class TiedEmbedding:
    """The matrix that is embedding on a pipeline's first process and unembedding on its last.

    Both have it, as in Megatron-LM: their gradients are added up, and so the weights move alike.
    """

    def __init__(self, grid: Grid):
        # The pipeline is the grid's outermost axis.
        per_stage = grid.layout.devices // grid.layout.pipeline
        last = grid.layout.devices - per_stage
        ends = [[place, last + place] for place in range(per_stage)]
        self._group, _ = dist.new_subgroups_by_enumeration(ends)

    def add_gradients(self, model: Decoder) -> None:
        """After the backward pass; processes in the middle do nothing."""
        weight = getattr(model.embedding, "weight", None)
        if weight is None:
            return
        assert weight.grad is not None
        dist.all_reduce(local(weight.grad), group=self._group)
