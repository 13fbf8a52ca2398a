"""What a process sends in a step by our engine, in theory: every collective of every technique, in bytes.

In a ring of N processes an all-gather or reduce-scatter of S bytes has each of them send (N-1)/N S, an all-reduce
twice that (Patarasuk and Yuan 2009, J. Parallel Distrib. Comput. 69(2)). Left out are sums of a few numbers: of
losses, of norms, of what the parts of a vocabulary tell each other, and how many tokens an expert gets.
"""

from collections.abc import Iterator
from typing import NamedTuple

from groundup.plan.cluster.layout import Layout
from groundup.plan.cluster.parts import Part, device_parts
from groundup.shape import Shape, family

# Gradients as they are added to weights, and what optimizers make of them.
_FLOAT = 4


class NumberBytes(NamedTuple):
    """Bytes of a number: weights as they are gathered, gradients as they are summed, values, residual stream."""

    weights: int = 4
    gradients: int = 4
    values: int = 4
    stream: int = 4


FLOAT32 = NumberBytes()


class Sent(NamedTuple):
    """Of one kind, for one purpose: what a process sends in a step; `axis` as in `parallel.traffic.Collective`."""

    purpose: str
    kind: str
    axis: str
    bytes: float
    formula: str


def step_sent(
    shape: Shape, layout: Layout, pipeline_rank: int, numbers: NumberBytes = FLOAT32, *, optimizer: str = "adamw"
) -> list[Sent]:
    """What a process at this place of the pipeline sends in a step.

    Tokens are taken to spread evenly over experts.

    Args:
        shape: of the model.
        layout: of at least two devices.
        pipeline_rank: 0 for the first stage, and without a pipeline.
        numbers: their types.
        optimizer: Muon gathers what is divided, the others gather nothing.
    """
    parts = device_parts(shape, layout, pipeline_rank)
    rows = [
        *_data(layout, parts, numbers),
        *_tensor(shape, layout, parts, numbers),
        *_context(shape, layout, parts, numbers),
        *_experts(shape, layout, parts, numbers),
        *_pipeline(shape, layout, parts, pipeline_rank, numbers),
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
    """Of these axes of `parallel.grid.Grid` those that have several processes."""
    data = layout.data // layout.expert
    copies = layout.replicate if layout.zero else data
    sizes = {
        "replicate": copies,
        "shard": data // copies,
        "context": layout.context,
        "expert": layout.expert,
    }
    return "+".join(name for name in names if sizes[name] > 1)


class _Held(NamedTuple):
    """Parameters of a device, in its blocks and around them; without ZeRO `sharers` processes have the same."""

    of: str
    blocks: float
    outer: float
    sharers: int
    axes: tuple[str, ...]


def _held(layout: Layout, parts: list[Part]) -> Iterator[_Held]:
    """What all data parallel processes have, and experts, which only some of them have."""
    blocks, outer = (sum(values) for values in zip(*((p.layers * p.block, p.outer) for p in parts), strict=True))
    experts = sum(part.layers * part.experts for part in parts) if layout.expert > 1 else 0.0
    yield _Held("", blocks - experts, outer, layout.zero_devices, ("context", "expert"))
    if experts:
        yield _Held(" of experts", experts, 0.0, layout.zero_devices // layout.expert, ("context",))


def _data(layout: Layout, parts: list[Part], numbers: NumberBytes) -> Iterator[Sent]:
    """ZeRO-0 sums gradients; the others scatter their sum and gather weights (arXiv:1910.02054, section 7)."""
    for held in _held(layout, parts):
        yield from _divided(layout, held, numbers) if layout.zero else _all_reduced(layout, held, numbers)


def _all_reduced(layout: Layout, held: _Held, numbers: NumberBytes) -> Iterator[Sent]:
    if held.sharers > 1:
        axis = _axis(layout, "replicate", *held.axes)
        sent = 2 * _ring(held.sharers) * (held.blocks + held.outer) * numbers.gradients
        yield Sent(f"gradients{held.of}", "all-reduce", axis, sent, "2 (N-1)/N S")


def _divided(layout: Layout, held: _Held, numbers: NumberBytes) -> Iterator[Sent]:
    shards, copies = held.sharers, layout.replicate
    # A pipeline adds gradients up until its last micro-batch; else they are divided each time from ZeRO-2 on.
    times = layout.accumulation if layout.zero >= 2 and layout.pipeline == 1 else 1
    size = times * (held.blocks + held.outer) * numbers.gradients
    if shards > 1:
        again, axis = f"{times} x " if times > 1 else "", _axis(layout, "shard", *held.axes)
        yield Sent(f"gradients{held.of}", "reduce-scatter", axis, _ring(shards) * size, f"{again}(N-1)/N S")
        yield _gathered(layout, held, axis, numbers)
    if copies > 1:
        copied = 2 * _ring(copies) * size / shards
        yield Sent(f"gradients{held.of}", "all-reduce", "replicate", copied, "2 (R-1)/R S/N between R copies")


def _gathered(layout: Layout, held: _Held, axis: str, numbers: NumberBytes) -> Sent:
    """Weights, for each pass in which they are not there yet; those around the blocks stay until the end."""
    count = layout.accumulation
    if layout.zero < 3:
        passes, kept, formula = 1, 1, "(N-1)/N S"
    elif layout.pipeline > 1:
        # Between the micro-batches of a pipeline they are let go only behind a forward pass.
        passes, kept, formula = count + 1, 1, f"(N-1)/N ({count + 1} S - {count} O)"
    else:
        passes, kept, formula = 2 * count, count, f"{count} x (N-1)/N (2 S - O)"
    size = numbers.weights * (passes * held.blocks + kept * held.outer)
    return Sent(f"weights{held.of}", "all-gather", axis, _ring(held.sharers) * size, formula)


def _positions(shape: Shape, layout: Layout) -> float:
    """Of a micro-batch, those of a context group's device: its tensor group has them together."""
    return layout.micro_batch * shape.context / layout.context


def _tensor(shape: Shape, layout: Layout, parts: list[Part], numbers: NumberBytes) -> Iterator[Sent]:
    """Twice a block and once at each end, forward and backward (Shoeybi et al. 2019, arXiv:1909.08053).

    What is computed again is sent again, but for the last sum of a block, which no gradient asks for. Behind the
    embedding the stream is summed; without `sequence` its gradients are too, elsewhere values are.
    """
    if layout.tensor == 1:
        return
    count, again = layout.accumulation, layout.recompute != "none"
    layers = count * sum(part.layers for part in parts)
    first = count * sum(part.has_embedding for part in parts)
    last = count * sum(part.has_unembedding for part in parts)
    # Learned positions are looked up for one sequence.
    places = first / layout.micro_batch if family(shape.family).position == "learned" else 0.0
    number = _ring(layout.tensor) * _positions(shape, layout) * shape.width
    if not layout.sequence:
        values, stream = (2 + again) * layers + last, 2 * layers + first
        sent = 2 * number * (values * numbers.values + (stream + places) * numbers.stream)
        yield Sent("hidden states", "all-reduce", "tensor", sent, f"{values + stream} x 2 (N-1)/N A")
        return
    for kind, extra in (("all-gather", 2), ("reduce-scatter", 1)):
        values = (4 + extra * again) * layers + last
        sent = number * (values * numbers.values + (first + places) * numbers.stream)
        yield Sent("hidden states", kind, "tensor", sent, f"{values + first} x (N-1)/N A")


def _context(shape: Shape, layout: Layout, parts: list[Part], numbers: NumberBytes) -> Iterator[Sent]:
    """Keys and values of all positions, for each time that they are looked at, and back their gradients."""
    if layout.context == 1:
        return
    width = 2 * shape.num_kv_heads * shape.head_width / layout.tensor
    size = _ring(layout.context) * numbers.values * layout.micro_batch * shape.context * width
    passes = layout.accumulation * sum(part.layers for part in parts)
    for kind, times in (
        ("all-gather", passes * (2 if layout.recompute != "none" else 1)),
        ("reduce-scatter", passes),
    ):
        yield Sent("keys and values", kind, "context", times * size, f"{times} x (N-1)/N KV")


def _experts(shape: Shape, layout: Layout, parts: list[Part], numbers: NumberBytes) -> Iterator[Sent]:
    """Tokens, once for each of their experts, there and back, and so their gradients (arXiv:2006.16668)."""
    if layout.expert == 1:
        return
    passes = 6 if layout.recompute != "none" else 4
    times = passes * layout.accumulation * sum(part.layers for part in parts)
    tokens = _positions(shape, layout) * (shape.experts_per_token or 0)
    size = _ring(layout.expert) * tokens * shape.width * numbers.values
    yield Sent("tokens of experts", "all-to-all", "expert", times * size, f"{times} x (E-1)/E K A")


def _pipeline(shape: Shape, layout: Layout, parts: list[Part], rank: int, numbers: NumberBytes) -> Iterator[Sent]:
    """The residual stream forward, its gradient backward; of a tied embedding the gradient from end to end."""
    if layout.pipeline == 1:
        return
    # Every stage but the last sends what it computes, every stage but the first its gradient.
    borders = sum((not part.has_unembedding) + (not part.has_embedding) for part in parts)
    times = layout.accumulation * borders
    positions = _positions(shape, layout) / (layout.tensor if layout.sequence else 1)
    sent = times * positions * shape.width * numbers.stream
    yield Sent("between stages", "send", "pipeline", sent, f"{times} x A")
    if shape.tied and rank in (0, layout.pipeline - 1):
        divided = layout.tensor * (layout.zero_devices if layout.zero else 1)
        size = _FLOAT * shape.vocabulary_size * shape.width / divided
        yield Sent("tied embedding", "all-reduce", "pipeline", size, "2 (2-1)/2 E between both ends")


def _muon(layout: Layout, parts: list[Part]) -> Iterator[Sent]:
    """Directions of matrices, which every device needs whole.

    What is divided twice along one side, by columns, is first put together within ZeRO's group; else the tensor
    and the expert group come first.
    """
    tensor, expert = layout.tensor, layout.expert
    shards, same = (layout.zero_devices, layout.zero_devices // expert) if layout.zero else (1, 1)
    columns = _FLOAT * sum(part.column_matrices for part in parts)
    rows = _FLOAT * sum(part.row_matrices for part in parts)
    experts = _FLOAT * expert * sum(part.layers * part.experts for part in parts)
    for axis, sent in (
        (_axis(layout, "shard", "context", "expert"), _ring(shards) * (columns / tensor + rows)),
        ("tensor", _ring(tensor) * (columns + rows / shards)),
        (_axis(layout, "shard", "context"), _ring(same) * experts),
        ("expert", _ring(expert) * experts / same),
    ):
        if sent:
            yield Sent("Muon", "all-gather", axis, sent, "(N-1)/N M")
