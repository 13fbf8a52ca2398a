"""What a process keeps of weights, gradients and optimizer states by our engine, between steps and at work.

FSDP2 keeps 1/N of everything between steps, whatever the stage of ZeRO (`states.state_bytes` with ZeRO-3). At work
whole weights stand beside their parts, and before ZeRO-2 whole gradients until the last micro-batch. Where it only
makes copies, the weights at work are copies too. All in float32; the gradients of the bucket at work, and what
collectives take in between, are left out.
"""

from typing import NamedTuple

from groundup.plan.cluster.layout import Layout
from groundup.plan.cluster.parts import Part, device_parts
from groundup.plan.cluster.states import STATE_RECIPES, state_bytes
from groundup.plan.optimizer_memory import state_bytes as optimizer_bytes
from groundup.plan.parameters import total
from groundup.recipe import TrainRecipe
from groundup.shape import Shape

_FLOAT = 4


class Kept(NamedTuple):
    """Bytes on one device.

    `weights` and `optimizer` between steps; `gradients` as the optimizer gets them; `weights_at_work` at most;
    `gradients_at_work` at most from one micro-batch to the next.
    """

    weights: float
    gradients: float
    optimizer: float
    weights_at_work: float
    gradients_at_work: float


def step_kept(
    shape: Shape, layout: Layout, pipeline_rank: int, settings: TrainRecipe, bucket_bytes: float
) -> Kept:
    """Of a device at this place of the pipeline; blocks of `bucket_bytes` together are gathered at once."""
    parts = device_parts(shape, layout, pipeline_rank)
    parameters = sum(part.parameters for part in parts)
    divided = layout.zero > 0 and layout.zero_devices > 1
    shards = layout.zero_devices if divided else 1
    # What experts' groups have divided already is not divided by them again: ZeRO leaves 1/N of all experts.
    experts = sum(part.layers * part.experts for part in parts) if divided else 0.0
    own = (parameters + (layout.expert - 1) * experts) / shards
    states = state_bytes(STATE_RECIPES["fp32"], own, 0, 1)
    whole, several, piped = _FLOAT * parameters, layout.accumulation > 1, layout.pipeline > 1
    at_work, between = whole * (2 if _copied(layout) else 1), whole
    if divided:
        # Behind a backward pass a pipeline's weights stay whole; else ZeRO-3 has one bucket at a time.
        is_whole = layout.zero < 3 or (piped and several)
        at_work = states.weights + (whole if is_whole else _gathered_bytes(parts, bucket_bytes))
        between = whole if several and (layout.zero == 1 or piped) else states.gradients
    return Kept(
        weights=states.weights,
        gradients=states.gradients,
        optimizer=own * optimizer_bytes(shape, settings) / total(shape),
        weights_at_work=at_work,
        gradients_at_work=between,
    )


def _copied(layout: Layout) -> bool:
    """Whether FSDP2 averages gradients without dividing anything, as DistributedDataParallel cannot there."""
    alone = layout.tensor == layout.pipeline == layout.expert == 1
    return layout.zero == 0 and layout.data * layout.context > 1 and not alone


def _gathered_bytes(parts: list[Part], bucket_bytes: float) -> float:
    """What stands around the blocks stays whole; of the blocks those of one bucket are."""
    outer = sum(part.outer for part in parts)
    return _FLOAT * (outer + max(_largest_bucket(part, bucket_bytes) for part in parts))


def _largest_bucket(part: Part, bucket_bytes: float) -> float:
    """Parameters of as many neighbouring blocks as go together."""
    fitting = max(1, int(bucket_bytes // (_FLOAT * part.block)))
    return min(part.layers, fitting) * part.block
