"""The memory of a training step on each device: by category, by moment of the step, by stage of the pipeline."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from groundup.plan.cluster.activations import hidden_bytes, in_flight, layer_bytes, logits
from groundup.plan.cluster.layout import Layout
from groundup.plan.cluster.stages import Stage, stages
from groundup.plan.cluster.states import StateBytes, StateRecipe, state_bytes
from groundup.shape import Shape

if TYPE_CHECKING:
    from groundup.plan.cluster.devices import Device

# Of a device's memory, what PyTorch's allocator can have: the driver, the kernels' code and NCCL take the rest.
# Runs of the Ultra-Scale Playbook on 80 GiB go up to about 76.
USABLE = 0.95
# Layers whose weights ZeRO-3 has whole at once: the one at work and the next.
GATHERED_LAYERS = 2


@dataclass(frozen=True)
class MemoryConstants:
    """What an engine takes of the things that the formulas count.

    `activations`: times the closed form of `layer_bytes`, for copies that the code makes, gaps and rounding in the
    allocator. `logit_bytes`: a logit, in 16 bits, in float32, its softmax and its gradient. `parameter_bytes`: a
    parameter, in 16-bit gradients before they are added up and in buckets in which they travel. `gathered`: hidden
    states a layer, whole, that tensor parallelism gathered and that are still there when the next micro-batch
    begins; seen in runs without a pipeline. `buffers`: hidden states, whole, in its communication. `device_bytes`:
    what is there in any case.
    """

    activations: float = 1.0
    logit_bytes: float = 4.0
    parameter_bytes: float = 0.0
    gathered: float = 0.0
    buffers: float = 0.0
    device_bytes: float = 0.0
    source: str = field(default="formulas alone", kw_only=True)


# The published formulas as they are, with logits in float32 (Megatron-LM theoretical_memory_usage.py).
FORMULAS_ALONE = MemoryConstants()


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


@dataclass(frozen=True)
class StageMemory:
    """The memory of a device of one pipeline stage, at the greatest moment of each phase of a step.

    `forward`: the last micro-batch's loss has been taken, or handed on. `backward`: in the last layer; with
    recomputation that layer is whole again. `update`: of the weights. `in_flight` counts micro-batches.
    """

    stage: Stage
    in_flight: float
    forward: Moment
    backward: Moment
    update: Moment

    @property
    def moments(self) -> dict[str, Moment]:
        """By name, in the order of time."""
        return {"forward": self.forward, "backward": self.backward, "update": self.update}

    @property
    def peak_moment(self) -> str:
        """The name of the greatest."""
        return max(self.moments, key=lambda name: self.moments[name].total)

    @property
    def peak(self) -> float:
        """Its bytes."""
        return max(self.forward.total, self.backward.total, self.update.total)


@dataclass(frozen=True)
class DeviceMemory:
    """The memory of a device of each stage; devices of the same stage need the same."""

    stages: tuple[StageMemory, ...]
    constants: MemoryConstants

    @property
    def at_peak(self) -> StageMemory:
        """The stage that needs the most."""
        return max(self.stages, key=lambda stage: stage.peak)

    @property
    def peak(self) -> float:
        """Bytes that the device with the most needs, over all moments."""
        return max(stage.peak for stage in self.stages)


# Fitted to 1,126 runs of models of 1B and 3B (Ultra-Scale Playbook 2025) by `benchmarks/planner.py memory`, which
# also fits them to one size and tries them on the other. Counted in nanotron's code, a layer keeps 1.09 times
# `layer_bytes` (keys and values twice) and a logit takes 10 bytes; the rest are gaps in the allocator. No run of
# the study recomputes, splits the context or goes beyond ZeRO-1: there the formulas are not measured.
H100_NANOTRON = MemoryConstants(
    activations=1.306,
    logit_bytes=10.8,
    parameter_bytes=1.03,
    gathered=1.44,
    buffers=1.78,
    device_bytes=3.06e8,
    source="fitted to runs of nanotron on H100 (Ultra-Scale Playbook 2025)",
)


def device_memory(
    shape: Shape,
    layout: Layout,
    recipe: StateRecipe,
    *,
    flash: bool = True,
    constants: MemoryConstants = H100_NANOTRON,
) -> DeviceMemory:
    """The memory that a training step takes on each device.

    Args:
        shape: of the model; its context is the length of the sequences.
        layout: of model and batch over the devices.
        recipe: bytes a parameter of what is kept from step to step.
        flash: attention is fused, and its scores are not kept.
        constants: what the engine takes beside the formulas.

    Raises:
        UserError: the layout does not divide the model.
    """
    layout.check(shape)
    counter = _Counter(shape, layout, recipe, flash, constants)
    return DeviceMemory(tuple(map(counter.stage, device_stages(shape, layout))), constants)


def usable_bytes(device: "Device") -> float:
    """What training can have of a device's memory."""
    return USABLE * device.memory_bytes


def fits(memory: DeviceMemory, device: "Device") -> bool:
    """Whether the peak is within what training can have of the device."""
    return memory.peak <= usable_bytes(device)


def keeps_gathered(layout: Layout) -> bool:
    """Whether hidden states that tensor parallelism gathered outlast their micro-batch."""
    return layout.sequence and layout.pipeline == 1 < layout.accumulation and layout.recompute != "full"


def has_whole_layers(layout: Layout, stage: Stage) -> bool:
    """Whether ZeRO has some layers whole while the rest is divided: their gradients and, from 3 on, weights."""
    return stage.layers > 0 and layout.zero >= 2 and layout.zero_devices > 1


def device_stages(shape: Shape, layout: Layout) -> tuple[Stage, ...]:
    """What the devices of the pipeline have; with virtual stages each has one part of every round."""
    parts = stages(shape, layout.pipeline * layout.virtual_stages)
    if layout.virtual_stages == 1:
        return parts
    rounds = [parts[index :: layout.pipeline] for index in range(layout.pipeline)]
    return tuple(
        Stage(
            index=index,
            layers=sum(part.layers for part in own),
            parameters=sum(part.parameters for part in own),
            is_first=own[0].is_first,
            is_last=own[-1].is_last,
        )
        for index, own in enumerate(rounds)
    )


class _Counter:
    """Counts stages of one model and layout; what they have in common is counted once."""

    def __init__(self, shape: Shape, layout: Layout, recipe: StateRecipe, flash: bool, constants: MemoryConstants):
        self._layout, self._recipe, self._constants = layout, recipe, constants
        size = recipe.value_bytes
        self._kept = layer_bytes(shape, layout, recompute=layout.recompute, flash=flash, value_bytes=size)
        self._whole_layer = layer_bytes(shape, layout, flash=flash, value_bytes=size)
        self._logits = logits(shape, layout)
        hidden = hidden_bytes(shape, layout, size) if layout.tensor > 1 else 0.0
        self._buffers = constants.buffers * hidden + constants.device_bytes
        self._gathered = constants.gathered * hidden if keeps_gathered(layout) else 0.0

    def stage(self, stage: Stage) -> StageMemory:
        """The memory of a device of this stage."""
        layout, constants = self._layout, self._constants
        parameters = stage.parameters / layout.tensor
        shards = layout.zero_devices
        states = state_bytes(self._recipe, parameters, layout.zero, shards)
        # From ZeRO-2 on gradients are divided as soon as a layer has them.
        buckets = constants.parameter_bytes * parameters / (shards if layout.zero >= 2 else 1)
        copies = self._copies(stage)
        in_flight_ = in_flight(layout, stage.index)
        kept = in_flight_ * stage.layers * constants.activations * self._kept + stage.layers * self._gathered
        # Recomputation has one layer whole, beside its input that was kept.
        live = constants.activations * (self._whole_layer - self._kept) if stage.layers else 0.0
        own_logits = constants.logit_bytes * self._logits if stage.is_last else 0.0
        return StageMemory(
            stage=stage,
            in_flight=in_flight_,
            forward=Moment(*states, kept, own_logits, buckets + copies.weights + self._buffers),
            backward=Moment(*states, kept + live, 0.0, buckets + copies.total + self._buffers),
            update=Moment(*states, 0.0, 0.0, buckets + constants.device_bytes),
        )

    def _copies(self, stage: Stage) -> StateBytes:
        """What ZeRO has whole of the layers at work while the rest is divided."""
        layout = self._layout
        if not has_whole_layers(layout, stage):
            return StateBytes(0.0, 0.0, 0.0)
        layer = stage.parameters / stage.layers / layout.tensor
        weights = GATHERED_LAYERS * self._recipe.weights * layer if layout.zero == 3 else 0.0
        return StateBytes(weights, self._recipe.gradients * layer, 0.0)
