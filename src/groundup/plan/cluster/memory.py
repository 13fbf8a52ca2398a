"""The memory of a training step on each device: by category, by moment of the step, and by stage of the pipeline."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from groundup.plan.cluster.activations import hidden_bytes, in_flight, layer_bytes, logits
from groundup.plan.cluster.layout import Layout
from groundup.plan.cluster.stages import Stage, stages
from groundup.plan.cluster.states import StateBytes, StateRecipe, state_bytes
from groundup.shape import Shape

if TYPE_CHECKING:
    from groundup.plan.cluster.devices import Device

# Of a device's memory, what PyTorch's allocator can have: the driver, the kernels' code and NCCL take the rest. Runs
# of the Ultra-Scale Playbook on 80 GB end at about 76 GiB.
_USABLE = 0.95


@dataclass(frozen=True)
class MemoryConstants:
    """What an engine takes of each thing that the formulas count.

    `activations`: times the closed form of `layer_bytes`, for copies that kernels make and blocks that the allocator
    rounds. `logit_bytes`: a logit, from the product in 16 bits over float32 and its softmax to the gradient.
    `bucket_bytes`: a parameter, in buckets in which gradients travel between replicas. `buffers`: hidden states of a
    micro-batch that tensor parallelism has whole at once. `device_bytes`: what is there in any case.
    """

    activations: float
    logit_bytes: float
    bucket_bytes: float
    buffers: float
    device_bytes: float
    source: str = ""


class Moment(NamedTuple):
    """Bytes on a device at one moment of a step, by category; `optimizer` includes master weights."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    other: float

    @property
    def total(self) -> float:
        """All categories together."""
        return sum(self)
