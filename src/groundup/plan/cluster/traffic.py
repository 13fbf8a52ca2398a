"""What one device sends in a step, in theory: bytes by technique.

In a ring of n devices each sends (n-1)/n of the bytes that are gathered or scattered, and twice that of a sum that
all of them get (Patarasuk and Yuan 2009, J. Parallel Distrib. Comput. 69(2)).
"""

from typing import NamedTuple

from groundup.plan.cluster.layout import Layout
from groundup.plan.cluster.stages import Stage
from groundup.plan.parameters import ledger
from groundup.shape import Shape


class NumberBytes(NamedTuple):
    """Bytes of a number: weights as they are gathered, gradients as they are summed, values, residual stream."""

    weights: int
    gradients: int
    values: int
    stream: int


class SentBytes(NamedTuple):
    """What a device sends in a step. `data` is for gradients and weights, over data and context together."""

    data: float
    context: float
    tensor: float
    pipeline: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self)


def sent_bytes(shape: Shape, layout: Layout, stage: Stage, size: NumberBytes) -> SentBytes:
    """What a device of `stage` sends in a step."""
    return SentBytes(
        data=_data(shape, layout, stage, size),
        context=_context(shape, layout, stage, size),
        tensor=_tensor(shape, layout, stage, size),
        pipeline=_pipeline(shape, layout, stage, size),
    )


def _ring(devices: int) -> float:
    return (devices - 1) / devices


def _data(shape: Shape, layout: Layout, stage: Stage, size: NumberBytes) -> float:
    """ZeRO-0 sums gradients; the others scatter their sum and gather weights (arXiv:1910.02054, section 7).

    A pipeline's schedule adds gradients up until the last micro-batch, with every ZeRO.
    """
    parameters = stage.parameters / layout.tensor
    gradients = size.gradients * parameters
    if not layout.zero:
        return 2 * _ring(layout.data * layout.context) * gradients
    shards, rounds = layout.zero_devices, layout.accumulation if layout.pipeline == 1 else 1
    reductions = rounds if layout.zero >= 2 else 1
    gathered = size.weights * parameters
    if layout.zero == 3:
        # What is at work at the end of the forward pass is not let go: embedding, last norm, unembedding.
        blocks = size.weights * (stage.parameters - _outside_blocks(shape, stage)) / layout.tensor
        gathered = layout.accumulation * (gathered + blocks)
    among_copies = 2 * _ring(layout.replicate) * gradients / shards
    return _ring(shards) * gathered + reductions * (_ring(shards) * gradients + among_copies)


def _outside_blocks(shape: Shape, stage: Stage) -> int:
    counts = ledger(shape)
    matrices = 2 if stage.is_first and stage.is_last and not shape.tied else stage.is_first or stage.is_last
    return int(matrices) * shape.vocabulary_size * shape.width + (counts["position"] if stage.is_first else 0)


def _tokens(shape: Shape, layout: Layout) -> float:
    """Of a step's sequences, those that go through one device."""
    return layout.accumulation * layout.micro_batch * shape.context / layout.context


def _context(shape: Shape, layout: Layout, stage: Stage, size: NumberBytes) -> float:
    """Keys and values are gathered, and their gradients scattered."""
    width = 2 * shape.num_kv_heads * shape.head_width / layout.tensor
    passes = 2 + (layout.recompute != "none")
    whole = _tokens(shape, layout) * layout.context * width * size.values
    return passes * stage.layers * _ring(layout.context) * whole


def _tensor(shape: Shape, layout: Layout, stage: Stage, size: NumberBytes) -> float:
    """Four sums of hidden states a layer (arXiv:1909.08053); with `sequence` each falls into two halves."""
    sums = stage.layers * (4 + 2 * (layout.recompute == "full"))
    hidden = _tokens(shape, layout) * shape.width
    return 2 * _ring(layout.tensor) * hidden * (
        sums * size.values + (stage.is_first + stage.is_last) * size.stream
    )  # fmt: skip


def _pipeline(shape: Shape, layout: Layout, stage: Stage, size: NumberBytes) -> float:
    """The residual stream forward, its gradient backward; of a tied embedding the gradient from end to end."""
    if layout.pipeline == 1:
        return 0.0
    positions = _tokens(shape, layout) / (layout.tensor if layout.sequence else 1)
    sends = 2 * layout.virtual_stages - stage.is_first - stage.is_last
    tied = shape.vocabulary_size * shape.width / layout.tensor if shape.tied else 0
    return sends * positions * shape.width * size.stream + 4 * tied * (stage.is_first or stage.is_last)
