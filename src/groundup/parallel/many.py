"""One training step on many devices: the model laid out over them, and what they do together.

The order in which techniques are put around a model is fixed: tensor and sequence (context, experts), the
pipeline's stages, recomputation, compilation, data. Then the model gets its memory and its weights.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from groundup.model.decoder import Decoder
from groundup.model.initialise import initialise
from groundup.model.registry import assemble
from groundup.objective import Batch, Objective
from groundup.parallel.context import Chunks, context_parallel
from groundup.parallel.data import let_go, overlapped, prepare_backward, sharded
from groundup.parallel.divided import place_own_part, whole
from groundup.parallel.expert import average_expert_gradients, balance_together, expert_parallel
from groundup.parallel.grid import Grid
from groundup.parallel.learner import Computing, Learner
from groundup.parallel.pipeline import Pipeline, TiedEmbedding, keep_own_layers, make_stages
from groundup.parallel.recompute import Recompute, recompute
from groundup.parallel.tensor import tensor_parallel
from groundup.plan.cluster.layout import Layout
from groundup.recipe import ParallelRecipe
from groundup.shape import Shape

Windows = npt.NDArray[np.int64]


class ManyDevices:
    """This process's part of a model and of every step.

    `model` is a Decoder whose parameters have the names and (as DTensors) the shapes that they have on one device;
    with a pipeline those of other processes are missing. `trained` is the same, or what `arrange` made of it.

    Args:
        shape: of the whole model.
        objective: what it learns.
        grid: this process's place.
        settings: how data parallelism communicates.
        seed: decides the weights, which are the same for every layout.
        computing: the context of a forward pass.
        weights: the type that weights are computed in, where it is not their own.
        recomputing: what the backward pass computes again.
        compiled: compiles modules in place.
        arrange: what is done to the decoder before it is shared out, such as putting a head on it; what it gives
            is trained. Only with layouts that keep every block whole.
    """

    def __init__(
        self,
        shape: Shape,
        objective: Objective,
        grid: Grid,
        settings: ParallelRecipe,
        *,
        seed: int,
        computing: Computing,
        weights: torch.dtype | None = None,
        recomputing: Recompute = "none",
        compiled: Callable[[Iterable[nn.Module]], None] | None = None,
        arrange: Callable[[Decoder], nn.Module] | None = None,
    ):
        self.grid, self._objective, self._settings = grid, objective, settings
        self.model = model = assemble(shape)
        self.trained: nn.Module = arrange(model) if arrange is not None else model
        layout = grid.layout
        if layout.tensor > 1:
            tensor_parallel(model, grid.mesh["tensor"], layout.sequence)
        self._chunks = None
        if layout.context > 1:
            self._chunks = Chunks(shape.context, grid.group("context"))
            context_parallel(model, self._chunks, grid.device)
        if layout.expert > 1:
            expert_parallel(model, grid.mesh["expert"])
        if grid.tokens.size() > 1:
            balance_together(model, grid.tokens.get_group())
        stages = keep_own_layers(model, grid) if layout.pipeline > 1 else []
        recompute(model, recomputing)
        if compiled is not None:
            compiled(_to_compile(model, layout))
        self._pipeline, self._tied = None, None
        if stages:
            parts = make_stages(model, stages, objective, computing, grid)
            self._share_out(list(parts), [list(part.blocks) for part in parts], weights, seed)
            self._pipeline = Pipeline(parts, grid)
            self._tied = TiedEmbedding(grid) if shape.tied else None
        else:
            learner = Learner(self.trained, objective, computing)
            self._learner = self._share_out([learner], [list(model.blocks)], weights, seed)[0]

    def _share_out(
        self, modules: list[nn.Module], blocks: Sequence[list[nn.Module]], weights: torch.dtype | None, seed: int
    ) -> list[nn.Module]:
        """Wrap for data parallelism; the model gets its memory on the way."""
        grid, layout = self.grid, self.grid.layout
        several = grid.tokens.size() > 1
        is_plain = weights is None and self._settings.reduce == "fp32" and not self._settings.offload
        is_whole = not layout.zero and layout.tensor == layout.pipeline == layout.expert == 1
        by_ddp = several and is_plain and is_whole
        if (several and not by_ddp) or weights is not None or self._settings.offload:
            for module, own in zip(modules, blocks, strict=True):
                sharded(module, own, grid, self._settings, weights)
        return self._fill(modules, seed, by_ddp)

    def _fill(self, modules: list[nn.Module], seed: int, by_ddp: bool) -> list[nn.Module]:
        """Give the model memory and weights; only then buckets, which have memory too, can be put around it."""
        self.trained.to_empty(device="cpu" if self._settings.offload else self.grid.device)
        initialise(self.trained, seed, place_own_part)
        return [overlapped(module, self.grid, self._settings) for module in modules] if by_ddp else modules

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take this process's part of whole weights by name instead of those that were drawn."""
        own = self.trained.state_dict()
        if missing := own.keys() - state.keys():
            raise RuntimeError(f"{min(missing)} is missing")
        for name, tensor in own.items():
            place_own_part(tensor, state[name])

    @property
    def computing(self) -> Sequence[nn.Module]:
        """The modules through which a micro-batch passes, as they are wrapped."""
        return self._pipeline.stages if self._pipeline is not None else [self._learner]

    @property
    def gradients_are_buckets(self) -> bool:
        """Whether gradients stay where they are sent from; dropped, they would be made twice."""
        return self._pipeline is None and isinstance(self._learner, DistributedDataParallel)

    def own(self, windows: Windows) -> Windows:
        """This process's sequences of a step's windows (B, T + 1): a stretch of them."""
        size = len(windows) // self.grid.data_size
        assert size * self.grid.data_size == len(windows), "the batch divides over the processes"
        return windows[self.grid.data_rank * size :][:size]

    def accumulate(self, windows: Windows, micro_batch: int | None, first: int = 0) -> tuple[float, int]:
        """Forward and backward: the mean loss over the targets of all processes, and their number.

        `windows` (B, T + 1) are the whole step's, from number `first` of the run's order on.
        """
        self._set_mode(training=True)
        own = self.own(windows)
        batch = self._batch(own, first + self.grid.data_rank * len(own))
        num_targets = self._sum(batch.num_targets, self.grid.tokens.get_group())
        # Gradients are averaged over the processes that have other tokens, and are to be added up.
        share = self.grid.tokens.size() / max(num_targets, 1)
        size = micro_batch or len(own)
        if self._pipeline is not None:
            total = self._pipeline.train(batch, len(own) // size, share)
        else:
            total = self._micro_batches(batch, size, share)
        if self._tied is not None:
            self._tied.add_gradients(self.model)
        average_expert_gradients(self.model)
        return self._of_all(total) / self.grid.tokens.size(), round(num_targets)

    def _micro_batches(self, batch: Batch, size: int, share: float) -> float:
        total = 0.0
        batches = [batch.rows(slice(first, first + size)) for first in range(0, len(batch.targets), size)]
        for number, part in enumerate(batches, 1):
            prepare_backward(self._learner, number == len(batches), self.grid.layout.zero)
            loss = self._learner(part, share * part.num_targets)
            loss.backward()
            total += float(loss.detach())
        return total

    @torch.no_grad()
    def evaluate(self, windows: Windows, micro_batch: int) -> tuple[float, int]:
        """The mean loss of windows (B, T + 1) that every process is given whole, in nats, and their targets."""
        self._set_mode(training=False)
        size = self.grid.data_size
        first = len(windows) // size * size
        total = self._nats(self.own(windows[:first]), micro_batch)
        # What is left over goes through all of them, or some would wait for others that have nothing to do.
        total += self._nats(windows[first:], micro_batch) / size
        for module in self.computing:
            let_go(module)
        num_targets = self._objective.collate(windows).num_targets
        return self._of_all(total) / max(num_targets, 1), num_targets

    def _nats(self, windows: Windows, micro_batch: int) -> float:
        if not len(windows):
            return 0.0
        batch = self._batch(windows)
        if self._pipeline is not None:
            return self._pipeline.evaluate(batch)
        parts = (batch.rows(slice(first, first + micro_batch)) for first in range(0, len(windows), micro_batch))
        return sum(float(self._learner(part, float(part.num_targets))) for part in parts)

    def _set_mode(self, training: bool) -> None:
        """A pipeline's stages, which objectives take for the model, are beside it."""
        for module in (self.trained, *self.computing):
            module.train(training)

    def clip(self, largest: float) -> float:
        """Scale the gradients down to a norm of `largest`; the norm that they had, over all devices."""
        is_counted_elsewhere = self._tied is not None and self.grid.rank("pipeline") > 0
        gradients = [
            parameter.grad
            for name, parameter in self.trained.named_parameters()
            if parameter.grad is not None and not (is_counted_elsewhere and name == "embedding.weight")
        ]
        # Experts that are divided are on another mesh than the rest, and norms are taken within one.
        norms = [whole(nn.utils.get_total_norm(some)) for some in _by_mesh(gradients)]
        norm = torch.linalg.vector_norm(torch.stack(norms))
        if self._pipeline is not None:
            squares = norm.square()
            dist.all_reduce(squares, group=self.grid.group("pipeline"))
            norm = squares.sqrt()
        for some in _by_mesh(self.trained.parameters()):
            nn.utils.clip_grads_with_norm_(some, largest, norm)
        return float(norm)

    def _batch(self, windows: Windows, first: int = 0) -> Batch:
        batch = self._objective.collate(windows, first)
        return (batch if self._chunks is None else self._chunks.select(batch)).to(self.grid.device)

    def _of_all(self, loss: float) -> float:
        """Over the processes that have other tokens; with a pipeline only its last one knows a loss."""
        total = self._sum(loss, self.grid.tokens.get_group())
        return total if self._pipeline is None else self._sum(total, self.grid.group("pipeline"))

    def _sum(self, value: float, group: ProcessGroup) -> float:
        total = torch.tensor(value, dtype=torch.float64, device=self.grid.device)
        dist.all_reduce(total, group=group)
        return float(total)


def _by_mesh(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Plain tensors, and those that are divided over the same processes, each together."""
    groups: dict[DeviceMesh | None, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.device_mesh if isinstance(tensor, DTensor) else None, []).append(tensor)
    return list(groups.values())


def _to_compile(model: Decoder, layout: Layout) -> list[nn.Module]:
    """The blocks, or what of them computes.

    PyTorch 2.13 loses gradients of norms of DTensors that it compiles, and does not see modules that data
    parallelism wraps inside of others, as experts.
    """
    if layout.tensor == layout.expert == 1:
        return list(model.blocks)
    parts = ("attention",) if layout.expert > 1 else ("attention", "feedforward")
    return [block.get_submodule(part) for block in model.blocks for part in parts]
