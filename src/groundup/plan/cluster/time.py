"""How long a training step takes on many devices, part by part, and what it is worth in tokens a second.

Every part is work over speed: matrix products and attention at a share of the device's peak, what moves through
its memory at a share of the bandwidth, and what moves between devices as `groundup.plan.cluster.communication`
says. The shares are measured (`TimeConstants`); everything that depends on the shape and the layout is counted.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from groundup.plan.cluster import communication
from groundup.plan.cluster.communication import Fabric, place
from groundup.plan.cluster.layout import Layout
from groundup.plan.cluster.stages import stages
from groundup.plan.flops import train_flops_per_token
from groundup.shape import Shape, family

if TYPE_CHECKING:
    from groundup.plan.cluster.devices import Cluster
    from groundup.plan.cluster.states import StateRecipe

# Bytes of a hidden value, and of a logit from the product to its gradient: rounded, in float32, its softmax.
_VALUE_BYTES, _LOGIT_BYTES = 2, 10
# The backward pass takes the gradients of inputs and of weights: twice the forward pass.
_FORWARD_AND_BACKWARD = 3


@dataclass(frozen=True)
class TimeConstants:
    """What is measured of a device, its network and the software on it. Times in seconds, the others without unit.

    `matmul`, `attention`: shares of the peak FLOP/s. `memory`, `link`, `network`: shares of the bandwidths.
    `link_sharing`, `port_sharing`, `congestion`: exponents, see `Fabric`. `link_hop`, `network_hop`: from one
    device to the next in a collective. `launch`: what the processor takes to start a layer's kernels, forward
    and backward, `launch_tensor` more with tensor parallelism, and `launch_pipeline` more where a pipeline
    between nodes comes to that; a layer cannot be faster. `overlap`: the share of the last backward pass in
    which gradients travel beside it. `step`: what a step takes besides.
    """

    matmul: float
    attention: float
    memory: float
    link: float
    network: float
    link_sharing: float
    port_sharing: float
    congestion: float
    link_hop: float
    network_hop: float
    launch: float
    launch_tensor: float
    launch_pipeline: float
    overlap: float
    step: float
    source: str = ""


# Fitted by `benchmarks/planner.py layout` to the study's runs of its 1B model, so that those of the 3B model,
# and what is published of the larger ones, check them. Not fitted: attention (FlashAttention-2 gets 35 % of an
# H100: Shah et al. 2024, arXiv:2407.08608), memory (what large copies get), and overlap: of 0.15 to 0.5 the one
# that chose best with each cell of the study left out in turn.
H100_NANOTRON = TimeConstants(
    matmul=0.467,
    attention=0.35,
    memory=0.9,
    link=0.829,
    network=0.95,
    link_sharing=0.366,
    port_sharing=0.599,
    congestion=0.0243,
    link_hop=1.36e-5,
    network_hop=3.95e-4,
    launch=1.99e-3,
    launch_tensor=2.49e-3,
    launch_pipeline=6.73e-3,
    overlap=0.3,
    step=0.0536,
    source="fitted to runs of nanotron on H100 (Ultra-Scale Playbook 2025)",
)


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimizer step by what they are spent on, where nothing else is done meanwhile.

    `compute`: products, attention and what moves through memory. `recompute`: what of the forward pass is done
    again. `tensor`, `context`, `handover`: communication between the devices that share a layer, a sequence, and
    the pipeline. `bubble`: waiting for the pipeline to fill and drain. `data`: gradients and weights between the
    replicas. `update`: the optimizer. `overhead`: what every step takes besides.
    """

    compute: float
    recompute: float
    tensor: float
    context: float
    handover: float
    bubble: float
    data: float
    update: float
    overhead: float
    tokens: int
    flops: float
    peak_flops: float

    @property
    def parts(self) -> dict[str, float]:
        """Seconds by name, in the order in which they are told."""
        names = ("compute", "recompute", "tensor", "context", "handover", "bubble", "data", "update", "overhead")
        return {name: getattr(self, name) for name in names}

    @property
    def seconds(self) -> float:
        """The whole step."""
        return sum(self.parts.values())

    @property
    def tokens_per_second(self) -> float:
        """Tokens trained on by all devices together."""
        return self.tokens / self.seconds

    @property
    def mfu(self) -> float:
        """Model FLOPs utilization: work without recomputation, causal attention counted half, over the peak."""
        return self.flops / (self.seconds * self.peak_flops)


def step_time(
    shape: Shape,
    layout: Layout,
    cluster: "Cluster",
    recipe: "StateRecipe",
    constants: TimeConstants = H100_NANOTRON,
) -> StepTime:
    """The expected time of one optimizer step.

    Args:
        shape: of the model; its context is the length of the sequences.
        layout: of model and batch over the devices.
        cluster: whose peaks and bandwidths count; its number of devices is not looked at.
        recipe: bytes a parameter of what is kept and communicated.
        constants: measured shares of the peaks.
    """
    return TimeModel(shape, cluster, recipe, constants).step(layout)


class _Stage(NamedTuple):
    """The most layers of a stage before the last, those of the last, and the most parameters of any."""

    layers: int
    last_layers: int
    parameters: int


class _MicroBatch(NamedTuple):
    """Seconds of one micro-batch on a stage, forward and backward, by what they are spent on."""

    compute: float
    recompute: float
    tensor: float
    context: float


class TimeModel:
    """`step_time` for one shape, cluster and recipe: what does not depend on the layout is counted once."""

    def __init__(
        self, shape: Shape, cluster: "Cluster", recipe: "StateRecipe", constants: TimeConstants = H100_NANOTRON
    ):
        device = cluster.device
        self._shape, self._constants, self._node_size = shape, constants, device.node_size
        self._peak = device.flops_bf16 if recipe.value_bytes == 2 else device.flops_fp32
        self._recipe = recipe
        self._matmul = self._peak * constants.matmul
        self._attention = self._peak * constants.attention
        self._memory = device.memory_bandwidth * constants.memory
        self._fabric = Fabric(
            link_bandwidth=device.link_bandwidth * constants.link,
            network_bandwidth=device.network_bandwidth * constants.network,
            link_seconds=constants.link_hop,
            network_seconds=constants.network_hop,
            link_sharing=constants.link_sharing,
            port_sharing=constants.port_sharing,
            congestion=constants.congestion,
        )
        self._stages: dict[int, _Stage] = {}
        self._flops_per_token = train_flops_per_token(shape)
        query, key = shape.num_heads * shape.head_width, shape.num_kv_heads * shape.head_width
        gated = family(shape.family).feedforward == "swiglu"
        self._layer_parameters = 2 * shape.width * (query + key) + (3 if gated else 2) * shape.width * (
            shape.feedforward_width
        )
        self._head_parameters = shape.vocabulary_size * shape.width
        # Values read and written a token by kernels that hardly compute: norms with the residual sums before them;
        # rotary positions; the unit between the feed-forward part's products.
        self._stream_values = 8 * shape.width
        self._inner_values = 2 * query + 2 * key + (3 if gated else 2) * shape.feedforward_width
        # Scores and their weighted sum, over half the sequence on average.
        self._attention_flops = 2 * query * shape.context
        self._key_bytes = 2 * key * _VALUE_BYTES

    def step(self, layout: Layout) -> StepTime:
        """The step's parts for one layout."""
        constants, shape = self._constants, self._shape
        groups = place(layout, self._node_size)
        tokens = layout.micro_batch * shape.context / layout.context
        products, attention, memory = self._layer(layout, tokens)
        forward = products + attention + memory
        head = self._head(layout, tokens)
        again = {"none": 0.0, "selective": attention, "full": forward}[layout.recompute]
        passes = 3 if layout.recompute == "full" else 2
        hidden = tokens * shape.width * _VALUE_BYTES
        collectives = communication.tensor_seconds(self._fabric, groups.tensor, hidden, layout.sequence)
        ring = self._context(layout, groups, tokens, attention)
        stage = self._stage(layout.pipeline)
        parameters = stage.parameters / layout.tensor
        weights = parameters * (_FORWARD_AND_BACKWARD * 2 + 2 * self._recipe.gradients + 2) / self._memory

        def micro_batch(layers: int, heads: int) -> _MicroBatch:
            """Of a stage with so many layers, and the unembedding once or not."""
            return _MicroBatch(
                compute=_FORWARD_AND_BACKWARD * (layers * forward + heads * head) + weights,
                recompute=layers * again,
                tensor=(layers * passes + heads / 2) * collectives,
                context=layers * ring,
            )

        # The last stage has the fewer layers for its unembedding, to which and from which hidden states go once.
        slowest = max(micro_batch(stage.layers, 0), micro_batch(stage.last_layers, 1), key=sum)
        starting = max(stage.layers, stage.last_layers) * self._launch(layout, groups)
        slowest = slowest._replace(compute=slowest.compute + max(0.0, starting - sum(slowest)))
        sent = self._fabric.send(hidden / layout.tensor, groups.pipeline)
        handover = 2 * layout.virtual_stages * sent

        count = layout.accumulation
        slot = sum(slowest) + handover
        data = self._data(layout, groups, parameters, slot)
        return StepTime(
            compute=count * slowest.compute,
            recompute=count * slowest.recompute,
            tensor=count * slowest.tensor,
            context=count * slowest.context,
            handover=count * handover,
            bubble=(layout.pipeline - 1) / layout.virtual_stages * slot,
            data=data,
            update=self._update(layout, parameters),
            overhead=constants.step,
            tokens=layout.batch * shape.context,
            flops=layout.batch * shape.context * self._flops_per_token,
            peak_flops=layout.devices * self._peak,
        )

    def _layer(self, layout: Layout, tokens: float) -> tuple[float, float, float]:
        """Forward seconds of one layer: products of matrices, attention, and what moves through memory."""
        stream = self._stream_values / (layout.tensor if layout.sequence else 1)
        values = stream + self._inner_values / layout.tensor
        return (
            tokens * 2 * self._layer_parameters / layout.tensor / self._matmul,
            tokens * self._attention_flops / layout.tensor / self._attention,
            tokens * values * _VALUE_BYTES / self._memory,
        )

    def _head(self, layout: Layout, tokens: float) -> float:
        """Forward seconds of the unembedding and the loss, divided over the tensor group by vocabulary."""
        products = 2 * self._head_parameters / self._matmul
        logits = self._shape.vocabulary_size * _LOGIT_BYTES / self._memory
        return tokens * (products + logits) / layout.tensor

    def _launch(self, layout: Layout, groups: communication.Placement) -> float:
        """Seconds in which the processor starts a layer's kernels, forward and backward."""
        constants, seconds = self._constants, self._constants.launch
        if layout.tensor > 1:
            seconds += constants.launch_tensor
            if groups.pipeline.nodes > 1:
                seconds += constants.launch_pipeline
        return seconds

    def _stage(self, pipeline: int) -> _Stage:
        """What decides the time of a pipeline of so many stages."""
        if pipeline not in self._stages:
            *others, last = stages(self._shape, pipeline)
            self._stages[pipeline] = _Stage(
                layers=max((stage.layers for stage in others), default=0),
                last_layers=last.layers,
                parameters=max(stage.parameters for stage in (*others, last)),
            )
        return self._stages[pipeline]

    def _context(self, layout: Layout, groups: communication.Placement, tokens: float, attention: float) -> float:
        """What the ring of keys and values takes longer than the attention that it feeds, both ways, a layer."""
        if layout.context == 1:
            return 0.0
        ring = communication.context_seconds(
            self._fabric, groups.context, tokens * self._key_bytes / layout.tensor
        )
        return _FORWARD_AND_BACKWARD * max(0.0, ring - attention)

    def _data(self, layout: Layout, groups: communication.Placement, parameters: float, slot: float) -> float:
        """Exposed communication between replicas: of gradients, and with ZeRO of weights."""
        if groups.gradients.size == 1:
            return 0.0
        constants, fabric = self._constants, self._fabric
        gradients = communication.gradient_seconds(
            fabric, groups, layout.zero, parameters, min(4, self._recipe.gradients)
        )
        backward = slot * (_FORWARD_AND_BACKWARD - 1) / _FORWARD_AND_BACKWARD
        if layout.zero == 0:
            return gradients - min(gradients, constants.overlap * backward)
        # What is divided is summed after the backward pass, as measured; weights are gathered after the update.
        weights = communication.weight_seconds(fabric, groups.shards, parameters, self._recipe.weights)
        if layout.zero == 1:
            return gradients + weights
        if layout.zero == 2:
            return layout.accumulation * gradients + weights
        # Both passes of every micro-batch gather the weights anew, one block ahead of the computation; at least
        # once they are waited for as with ZeRO-1.
        gathers = layout.accumulation * (2 * weights - min(2 * weights, constants.overlap * slot))
        return max(weights, gathers) + layout.accumulation * gradients

    def _update(self, layout: Layout, parameters: float) -> float:
        """Gradients are measured, clipped, used and cleared; states and master weights read and written."""
        recipe = self._recipe
        traffic = 5 * recipe.gradients + 2 * (recipe.master + recipe.optimizer) + recipe.weights
        share = layout.zero_devices if layout.zero else 1
        return parameters * traffic / share / self._memory
