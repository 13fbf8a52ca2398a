"""Which parameters each device has: layers of its stages, divided over tensor and expert groups, before ZeRO."""

from dataclasses import dataclass

from groundup.plan.cluster.layout import Layout
from groundup.plan.cluster.stages import Stage, stages
from groundup.plan.optimizer_memory import hidden_matrices
from groundup.plan.parameters import final_norm, ledger
from groundup.shape import Shape


@dataclass(frozen=True)
class Part:
    """One stage on one device of its tensor and expert groups, in parameters.

    `block` is one of its `layers` blocks, of which `experts` are in the experts that are here; `outer` is what
    stands around blocks: embedding, positions, last norm, unembedding. `column_matrices` and `row_matrices` are
    those of all its blocks, whole and without experts, by the side that tensor parallelism divides.
    """

    layers: int
    block: float
    experts: float
    outer: float
    column_matrices: float
    row_matrices: float
    has_embedding: bool
    has_unembedding: bool

    @property
    def parameters(self) -> float:
        """All of them."""
        return self.layers * self.block + self.outer


def device_parts(shape: Shape, layout: Layout, pipeline_rank: int) -> list[Part]:
    """The stages of a device at this place of the pipeline; one, unless stages are interleaved.

    Tensor parallelism divides matrices and vocabulary, and leaves norms whole; experts are divided by expert.
    """
    cut = stages(shape, layout.pipeline * layout.virtual_stages)
    return [_part(shape, layout, stage) for stage in cut[pipeline_rank :: layout.pipeline]]


def _part(shape: Shape, layout: Layout, stage: Stage) -> Part:
    counts = ledger(shape)
    last_norm = final_norm(shape)
    norms = (counts["norm"] - last_norm) / shape.num_layers
    expert_matrices = ("gate", "up", "down") if shape.num_experts else ()
    experts = sum(counts[name] for name in expert_matrices) / shape.num_layers / layout.expert
    inside = ("query", "key", "value", "output", "gate", "up", "down", "router")
    dense = sum(counts[name] for name in inside if name not in expert_matrices) / shape.num_layers
    outside = (
        stage.parameters - stage.layers * (dense + experts * layout.expert + norms) - last_norm * stage.is_last
    )
    matrices = sum(rows * columns for rows, columns in hidden_matrices(shape)) / shape.num_layers
    into_stream = shape.num_heads * shape.head_width + (0 if shape.num_experts else shape.feedforward_width)
    by_rows = shape.width * into_stream
    return Part(
        layers=stage.layers,
        block=dense / layout.tensor + experts + norms,
        experts=experts,
        outer=outside / layout.tensor + last_norm * stage.is_last,
        column_matrices=stage.layers * (matrices - experts * layout.expert - by_rows),
        row_matrices=stage.layers * by_rows,
        has_embedding=stage.is_first,
        has_unembedding=stage.is_last,
    )
