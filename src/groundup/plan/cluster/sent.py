"""What a process sends in a step by our engine, in theory: every collective of every technique, in bytes.

In a ring of N processes an all-gather or reduce-scatter of S bytes has each of them send (N-1)/N S, an all-reduce
twice that (Patarasuk and Yuan 2009, J. Parallel Distrib. Comput. 69(2)). Left out are sums of a few numbers: of
losses, of norms, and of what the parts of a vocabulary tell each other. Values are in float32, blocks are not
recomputed, and there are no experts.
"""

from collections.abc import Iterator
from typing import NamedTuple

from groundup.plan.cluster.layout import Layout
from groundup.plan.cluster.parts import Part, device_parts
from groundup.shape import Shape

_FLOAT = 4
_GRADIENTS, _WEIGHTS = "gradients", "weights"


class Sent(NamedTuple):
    """Of one kind, for one purpose: what a process sends in a step; `axis` as in `parallel.traffic.Collective`."""

    purpose: str
    kind: str
    axis: str
    bytes: float
    formula: str


def step_sent(
    shape: Shape, layout: Layout, pipeline_rank: int, *, optimizer: str = "adamw", gradient_bytes: int = _FLOAT
) -> list[Sent]:
    """What a process at this place of the pipeline sends in a step.

    Args:
        shape: of the model.
        layout: of at least two devices.
        pipeline_rank: 0 for the first stage, and without a pipeline.
        optimizer: Muon gathers what is divided, the others gather nothing.
        gradient_bytes: of one gradient, as it travels.
    """
    parts = device_parts(shape, layout, pipeline_rank)
    rows = [
        *_data(layout, parts, gradient_bytes),
        *_tensor(shape, layout, parts),
        *_context(shape, layout, parts),
        *_pipeline(shape, layout, parts, pipeline_rank),
    ]
    return rows + (list(_muon(layout, parts)) if optimizer == "muon" else [])


def bubble_share(layout: Layout) -> float:
    """The share of a pipeline's time in which a device waits, (p-1) / (v m + p-1), if stages take equally long.

    p devices, m micro-batches, v stages on each device (Narayanan et al. 2021, arXiv:2104.04473, section 2.2).
    """
    waits = layout.pipeline - 1
    return waits / (layout.virtual_stages * layout.accumulation + waits)


def _ring(size: int) -> float:
    """What of a tensor each of `size` processes sends for an all-gather or a reduce-scatter of it."""
    return (size - 1) / size


def _axis(layout: Layout, *names: str) -> str:
    copies = layout.replicate if layout.zero else layout.data
    sizes = {"replicate": copies, "shard": layout.data // copies, "context": layout.context}
    return "+".join(name for name in names if sizes[name] > 1)


def _data(layout: Layout, parts: list[Part], gradient_bytes: int) -> Iterator[Sent]:
    parameters = sum(part.parameters for part in parts)
    if not layout.zero:
        yield from _all_reduced(layout, parameters * gradient_bytes)
        return
    shards, copies = layout.zero_devices, layout.replicate
    # A pipeline adds gradients up until its last micro-batch; else they are divided each time from ZeRO-2 on.
    times = layout.accumulation if layout.zero >= 2 and layout.pipeline == 1 else 1
    size, axis = times * parameters * gradient_bytes, _axis(layout, "shard", "context")
    if shards > 1:
        again = f"{times} x " if times > 1 else ""
        yield Sent(_GRADIENTS, "reduce-scatter", axis, _ring(shards) * size, f"{again}(N-1)/N S")
        yield _gathered(layout, parts, axis)
    if copies > 1:
        copied = 2 * _ring(copies) * size / shards
        yield Sent(_GRADIENTS, "all-reduce", "replicate", copied, "2 (R-1)/R S/N between R copies")


def _all_reduced(layout: Layout, size: float) -> Iterator[Sent]:
    count = layout.data * layout.context
    if count > 1:
        axis = _axis(layout, "replicate", "context")
        yield Sent(_GRADIENTS, "all-reduce", axis, 2 * _ring(count) * size, "2 (N-1)/N S")


def _gathered(layout: Layout, parts: list[Part], axis: str) -> Sent:
    """Weights, for each pass in which they are not there yet; those around the blocks stay until the end."""
    blocks, outer = (sum(values) for values in zip(*((p.layers * p.block, p.outer) for p in parts), strict=True))
    count = layout.accumulation
    if layout.zero < 3:
        passes, kept, formula = 1, 1, "(N-1)/N S"
    elif layout.pipeline > 1:
        # Between the micro-batches of a pipeline they are let go only behind a forward pass.
        passes, kept, formula = count + 1, 1, f"(N-1)/N ({count + 1} S - {count} O)"
    else:
        passes, kept, formula = 2 * count, count, f"{count} x (N-1)/N (2 S - O)"
    size = _FLOAT * (passes * blocks + kept * outer)
    return Sent(_WEIGHTS, "all-gather", axis, _ring(layout.zero_devices) * size, formula)


def _stream_bytes(shape: Shape, layout: Layout) -> float:
    """The residual stream of a micro-batch, over the whole tensor group."""
    return _FLOAT * layout.micro_batch * shape.context / layout.context * shape.width


def _tensor(shape: Shape, layout: Layout, parts: list[Part]) -> Iterator[Sent]:
    if layout.tensor == 1:
        return
    layers = sum(part.layers for part in parts)
    ends = sum(part.has_embedding + part.has_unembedding for part in parts)
    # Twice a block and once at each end, forward and backward.
    meetings = layout.accumulation * (4 * layers + ends)
    size = meetings * _ring(layout.tensor) * _stream_bytes(shape, layout)
    formula = f"{meetings} x (N-1)/N A"
    if layout.sequence:
        yield Sent("residual stream", "all-gather", "tensor", size, formula)
        yield Sent("residual stream", "reduce-scatter", "tensor", size, formula)
    else:
        yield Sent("residual stream", "all-reduce", "tensor", 2 * size, f"{meetings} x 2 (N-1)/N A")


def _context(shape: Shape, layout: Layout, parts: list[Part]) -> Iterator[Sent]:
    """Keys and values of all positions, and back their gradients."""
    if layout.context == 1:
        return
    layers = sum(part.layers for part in parts)
    width = 2 * shape.num_kv_heads * shape.head_width / layout.tensor
    times = layout.accumulation * layers
    size = times * _ring(layout.context) * _FLOAT * layout.micro_batch * shape.context * width
    for kind in ("all-gather", "reduce-scatter"):
        yield Sent("keys and values", kind, "context", size, f"{times} x (N-1)/N KV")


def _pipeline(shape: Shape, layout: Layout, parts: list[Part], rank: int) -> Iterator[Sent]:
    if layout.pipeline == 1:
        return
    # Every stage but the last sends what it computes, every stage but the first its gradient.
    borders = sum((not part.has_unembedding) + (not part.has_embedding) for part in parts)
    times = layout.accumulation * borders
    stream = _stream_bytes(shape, layout) / (layout.tensor if layout.sequence else 1)
    yield Sent("between stages", "send", "pipeline", times * stream, f"{times} x A")
    if shape.tied and rank in (0, layout.pipeline - 1):
        divided = layout.tensor * (layout.zero_devices if layout.zero else 1)
        size = _FLOAT * shape.vocabulary_size * shape.width / divided
        yield Sent("tied embedding", "all-reduce", "pipeline", size, "2 (2-1)/2 E between both ends")


def _muon(layout: Layout, parts: list[Part]) -> Iterator[Sent]:
    """Directions of matrices, whole on each device: first those of one place in the tensor group, then all."""
    size = _FLOAT * sum(part.matrices for part in parts)
    if layout.zero and layout.zero_devices > 1:
        shards = layout.zero_devices
        sent = _ring(shards) * size / layout.tensor
        yield Sent("Muon", "all-gather", _axis(layout, "shard", "context"), sent, "(N-1)/N M")
    if layout.tensor > 1:
        yield Sent("Muon", "all-gather", "tensor", _ring(layout.tensor) * size, "(N-1)/N M")
