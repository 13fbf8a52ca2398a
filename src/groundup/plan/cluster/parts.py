"""Which parameters each device has: the layers of its stages, divided over its tensor group, before ZeRO."""

from dataclasses import dataclass

from groundup.plan.cluster.layout import Layout
from groundup.plan.cluster.stages import Stage, stages
from groundup.plan.optimizer_memory import hidden_matrices
from groundup.plan.parameters import ledger
from groundup.shape import Shape, family


@dataclass(frozen=True)
class Part:
    """One stage on one device of its tensor group, in parameters.

    `block` is one of its `layers` blocks; `outer` is what stands around them: embedding, positions, last norm,
    unembedding. `matrices` are those of its blocks, whole.
    """

    layers: int
    block: float
    outer: float
    matrices: float
    has_embedding: bool
    has_unembedding: bool

    @property
    def parameters(self) -> float:
        """All of them."""
        return self.layers * self.block + self.outer


def device_parts(shape: Shape, layout: Layout, pipeline_rank: int) -> list[Part]:
    """The stages of a device at this place of the pipeline; one, unless stages are interleaved.

    Tensor parallelism divides matrices and vocabulary, and leaves norms whole.
    """
    cut = stages(shape, layout.pipeline * layout.virtual_stages)
    return [_part(shape, layout, stage) for stage in cut[pipeline_rank :: layout.pipeline]]


def _part(shape: Shape, layout: Layout, stage: Stage) -> Part:
    counts = ledger(shape)
    final_norm = shape.width * (2 if family(shape.family).norm == "layer" else 1)
    norms = (counts["norm"] - final_norm) / shape.num_layers
    inside = ("query", "key", "value", "output", "gate", "up", "down", "router")
    block = sum(counts[name] for name in inside) / shape.num_layers
    outer = stage.parameters - stage.layers * (block + norms) - final_norm * stage.is_last
    matrices = sum(rows * columns for rows, columns in hidden_matrices(shape)) / shape.num_layers
    return Part(
        layers=stage.layers,
        block=block / layout.tensor + norms,
        outer=outer / layout.tensor + final_norm * stage.is_last,
        matrices=matrices * stage.layers,
        has_embedding=stage.is_first,
        has_unembedding=stage.is_last,
    )
