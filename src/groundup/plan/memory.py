"""How much memory training takes: what stays from step to step, and what comes and goes within one.

Counted tensor by tensor for the blocks in `groundup.model` as they run on a CPU without compilation, in the style
of Korthikanti et al. 2022 (arXiv:2205.05198); `groundup.train.memory` measures the same tensors, and tests hold
one against the other.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from groundup.plan.hardware import Precision
from groundup.plan.optimizer_memory import state_bytes, update_bytes
from groundup.plan.parameters import ledger, non_embedding, total
from groundup.recipe import TrainRecipe
from groundup.shape import Shape, family

# What Python holds with torch, the pipeline and the kernels' code and scratch memory before there is a model; and
# how much more than the tensors the allocator takes, whose freed blocks do not always fit what is asked for next.
# Fitted to the peaks of processes (benchmarks/recompute.py shows both): the worst of 9 trials was 8 % off.
PROCESS_BYTES = 360 << 20
ALLOCATOR_SLACK = 1.25
# A block that is computed again lies beside freed ones that do not fit it: this share of its activations more.
_RECOMPUTED_SLACK = 0.5
# The loss is taken in chunks of so many bytes of logits, or rows (`groundup.objective.cross_entropy`).
_CHUNK_BYTES, _CHUNK_ROWS = 4 << 20, 256
# In bfloat16, attention is computed by the plain formula up to this length (`groundup.model.dot_product`).
EXPLICIT_UP_TO = 512

Recompute = Literal["none", "selective", "full"]
_PLAIN = TrainRecipe()


def decided_recompute(settings: TrainRecipe) -> Recompute:
    """What is recomputed; `auto` is for the planner, which tries one after the other, and elsewhere nothing."""
    return "none" if settings.recompute == "auto" else settings.recompute


class Moment(NamedTuple):
    """Bytes of tensors by category at one moment of a step; the categories are those of `train.memory`."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    other: int

    @property
    def total(self) -> int:
        """All categories together."""
        return sum(self)


@dataclass(frozen=True)
class StepMemory:
    """The moments of a step of which one is its peak, for a step that finds the optimizer's states there.

    The loss after the last block; the backward pass through the last block and through the first; the update.
    """

    loss: Moment
    last_block: Moment
    first_block: Moment
    update: Moment

    @property
    def moments(self) -> dict[str, Moment]:
        """The greatest moment of each phase: `forward`, `backward`, `update`."""
        backward = max(self.last_block, self.first_block, key=lambda moment: moment.total)
        return {"forward": self.loss, "backward": backward, "update": self.update}

    @property
    def peak(self) -> int:
        """The greatest total."""
        return max(moment.total for moment in self.moments.values())

    @property
    def greatest(self) -> Moment:
        """The most that each category takes at any moment; not all at the same one."""
        return Moment(*map(max, zip(self.loss, self.last_block, self.first_block, self.update, strict=True)))


def train_bytes(
    shape: Shape,
    micro_batch: int,
    precision: Precision,
    settings: TrainRecipe = _PLAIN,
    batch_size: int | None = None,
) -> int:
    """Resident bytes of the whole process at the peak of training; arguments as for `step_memory`."""
    parts = train_parts(shape, micro_batch, precision, settings, batch_size)
    # The optimizer's large blocks find no room where the many smaller ones of the backward pass were.
    return parts["process"] + int(ALLOCATOR_SLACK * parts["tensors"]) + parts["update"]


def train_parts(
    shape: Shape, micro_batch: int, precision: Precision, settings: TrainRecipe, batch_size: int | None
) -> dict[str, int]:
    """What `train_bytes` is made of: the process without a model, the tensors of a step, the update."""
    average = 4 * total(shape) if settings.ema is not None else 0
    step = step_memory(shape, micro_batch, precision, settings, batch_size)
    again = int(_RECOMPUTED_SLACK * step.first_block.activations) if settings.recompute == "full" else 0
    return {
        "process": PROCESS_BYTES,
        "tensors": average + step.peak + again,
        "update": update_bytes(shape, settings),
    }


def step_memory(
    shape: Shape,
    micro_batch: int,
    precision: Precision,
    settings: TrainRecipe = _PLAIN,
    batch_size: int | None = None,
) -> StepMemory:
    """What the tensors of a step take.

    Args:
        shape: of the model.
        micro_batch: sequences at once.
        precision: see `groundup.train.precision`.
        settings: of which `optimizer`, `beta1` and `recompute` count.
        batch_size: sequences a step, by default those of one micro-batch.
    """
    kinds, recompute = _Kinds(shape, precision), decided_recompute(settings)
    batch_size = batch_size or micro_batch
    parameters, tokens = total(shape), micro_batch * shape.context
    outer = shape.vocabulary_size * shape.width
    weights = (6 if kinds.copies_weights else 4) * (parameters + kinds.tables)
    short_blocks, short_outer = (
        (2 * (non_embedding(shape) - ledger(shape)["norm"]), 2 * outer) if kinds.autocasts else (0, 0)
    )
    tables = 2 * 2 * kinds.tables * (shape.num_layers if recompute == "none" else 1) if kinds.autocasts else 0
    states = state_bytes(shape, settings)
    # Gradients of the micro-batches before the last are in float32, and its own are added to them.
    earlier = 4 * parameters if batch_size > micro_batch else 0
    own = earlier + 2 * parameters if kinds.copies_weights else 4 * parameters
    # A working copy's are turned into float32 matrix by matrix: the last one is there in both for a while.
    last_matrix = 2 * outer if kinds.copies_weights and not shape.tied else 0
    outer_gradient = kinds.weight_size * outer
    ids = 2 * 8 * batch_size * shape.context
    kept, block = shape.num_layers * kinds.kept(recompute), kinds.kept("none")
    entry, entry_at_work = kinds.entry(recompute)
    held = short_blocks if recompute == "none" else short_blocks // shape.num_layers
    # Autocast keeps its copies until the forward pass ends, but those of experts' stacks go with their block.
    stacks = kinds.stacks if recompute != "none" and kinds.autocasts else 0
    return StepMemory(
        loss=Moment(
            weights + short_blocks - 2 * stacks + short_outer + (tables if recompute == "none" else 0),
            earlier,
            states,
            tokens * (kept + entry + kinds.end) + outer_gradient,
            ids + tokens * kinds.residual + loss_bytes(shape, precision, tokens),
        ),
        last_block=Moment(
            weights + held + tables,
            earlier,
            states,
            tokens * (kept + entry - kinds.kept(recompute) + block),
            ids + tokens * kinds.backward + outer_gradient,
        ),
        first_block=Moment(
            weights + held // (shape.num_layers if recompute == "none" else 1),
            # Stacks are large, and when two of the three get their gradients most of their block's activations
            # are gone.
            own - kinds.weight_size * kinds.stacks * 2 // (3 * shape.num_layers),
            states,
            tokens * (block + entry_at_work),
            ids + tokens * kinds.backward,
        ),
        update=Moment(weights, 4 * parameters + last_matrix, states, 0, ids + update_bytes(shape, settings)),
    )


def loss_bytes(shape: Shape, precision: Precision, tokens: int) -> int:
    """Bytes that come and go while the loss of `tokens` is taken: logits, and parts of the matrix's gradient."""
    size = 4 if precision == "fp32" else 2
    row = size * shape.vocabulary_size
    chunk = min(tokens, max(_CHUNK_ROWS, _CHUNK_BYTES // row)) * row
    # Logits and their probabilities; or one of them and its part of the gradient.
    return max(2 * chunk, chunk + row * shape.width)


def activation_bytes(shape: Shape, precision: Precision, recompute: Recompute = "none") -> int:
    """Bytes a token that the forward pass keeps for the backward pass."""
    kinds = _Kinds(shape, precision)
    return shape.num_layers * kinds.kept(recompute) + kinds.end


class _Kinds:
    """Bytes a token of what one block keeps, part by part.

    In short: D width, Q and K width of all heads and of all key/value heads, F feed-forward width, H heads,
    T context; `size` bytes for what matrix products work on, 4 for what norms do.
    """

    def __init__(self, shape: Shape, precision: Precision):
        self._shape, self._traits = shape, family(shape.family)
        self._size = 4 if precision == "fp32" else 2
        self.autocasts = precision in {"bf16", "fp16"}
        self.copies_weights = precision == "bf16-weights"
        self.weight_size = 2 if self.copies_weights else 4
        self._explicit = precision in {"bf16", "bf16-weights"} and shape.context <= EXPLICIT_UP_TO
        self._query = shape.num_heads * shape.head_width
        self._key = shape.num_kv_heads * shape.head_width
        self._gated = self._traits.feedforward == "swiglu"

    @property
    def stacks(self) -> int:
        """Numbers in the experts' weights."""
        counts = ledger(self._shape)
        return counts["gate"] + counts["up"] + counts["down"] if self._shape.num_experts else 0

    @property
    def tables(self) -> int:
        """Numbers in the tables of rotary positions."""
        return 2 * self._shape.context * self._shape.head_width if self._traits.position == "rotary" else 0

    @property
    def residual(self) -> int:
        """The stream between blocks; behind a norm it is what that gives to products."""
        return (self._size if self._traits.post_norm else self.weight_size) * self._shape.width

    @property
    def end(self) -> int:
        """After the last block: the last norm, where there is one, and the loss's gradient for its result."""
        norm = 0 if self._traits.post_norm else self._norm(self._shape.width, rows=1)
        return norm + self._size * self._shape.width

    def entry(self, recompute: Recompute) -> tuple[int, int]:
        """What the first block keeps more than others: until its backward pass, and in it.

        Behind no norm its input is in float32, which autocast shortens once for each of three products.
        """
        if not (self.autocasts and self._traits.post_norm):
            return 0, 0
        whole, copies = 4 * self._shape.width, 2 * self._size * self._shape.width
        return (copies, copies) if recompute == "none" else (whole - self.residual, whole + copies)

    @property
    def backward(self) -> int:
        """What passes back through a block beside what is kept of it, where that is the most."""
        gradients = self._size * self._shape.feedforward_width * (2 if self._gated else 1)
        if self._explicit:
            scores = 2 * self._size * self._shape.num_heads * self._shape.context
            gradients = max(gradients, scores - self._feedforward)
        return self.residual + gradients

    def kept(self, recompute: Recompute) -> int:
        """What one block keeps; see `groundup.parallel.recompute`."""
        shape, size = self._shape, self._size
        if recompute == "full":
            return self.residual
        if recompute == "selective":
            linear = self._query + 2 * self._key + shape.width
            linear += shape.feedforward_width * (2 if self._gated else 1)
            linear += (shape.experts_per_token or 0) * shape.width
            fused = 0 if self._explicit else size * self._query + 4 * shape.num_heads
            return self.residual + size * linear + fused
        return self._attention + self._feedforward

    @property
    def _attention(self) -> int:
        shape, size = self._shape, self._size
        kept = self._norm(shape.width, rows=1) + size * shape.width
        if self._traits.qk_norm:
            kept += self._norm(self._query, rows=shape.num_heads) + self._norm(self._key, rows=shape.num_kv_heads)
        if self._explicit:
            # Scaled queries, keys and values repeated for their groups, the result in order, and the softmax.
            return kept + 4 * size * self._query + size * shape.num_heads * shape.context
        # The kernel keeps each row's sum; after norms of heads its result has to be put in order once more.
        results = 2 if self._traits.qk_norm else 1
        return kept + size * (self._query + 2 * self._key) + results * size * self._query + 4 * shape.num_heads

    @property
    def _feedforward(self) -> int:
        shape, size = self._shape, self._size
        kept = self._norm(shape.width, rows=1) + size * shape.feedforward_width * (4 if self._gated else 2)
        return kept + (self._routing if shape.num_experts else size * shape.width)

    @property
    def _routing(self) -> int:
        """A mixture's router works in float32. Tokens go to their experts as copies, and come back as such."""
        shape, size, per_token = self._shape, self._size, self._shape.experts_per_token or 0
        router = 4 * (shape.width + (shape.num_experts or 0) + 1)
        choices = per_token * (3 * 8 + 4 + size)  # three int64 orders, and the weights as chosen and as used
        return router + choices + 2 * size * per_token * shape.width

    def _norm(self, width: int, rows: int) -> int:
        """Its input in float32, an RMS norm's result before its weight, and the statistics of each row."""
        return 4 * width + 8 * rows if self._traits.norm == "layer" else 8 * width + 4 * rows
