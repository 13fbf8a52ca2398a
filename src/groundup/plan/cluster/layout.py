"""How a model and its batch are laid out over devices."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from groundup.errors import UserError
from groundup.plan.memory import Recompute
from groundup.shape import Shape

Zero: TypeAlias = Literal[0, 1, 2, 3]
Schedule: TypeAlias = Literal["gpipe", "1f1b", "interleaved"]


_SIZES = (
    "data", "tensor", "context", "pipeline", "replicate", "expert", "micro_batch", "accumulation", "virtual_stages"
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Sizes of the parallel groups, and what each device does with its part of the batch.

    `devices` = data * tensor * context * pipeline. A step trains on `batch` = micro_batch * accumulation * data
    sequences. `sequence` shards norms and residuals over the tensor group (Korthikanti et al. 2022,
    arXiv:2205.05198). `virtual_stages` counts the parts of the model on each device of an interleaved pipeline.
    `replicate` copies of what ZeRO divides are among the data parallel groups (hybrid sharding: Zhao et al. 2023,
    arXiv:2304.11277). `expert` of the data parallel devices divide the experts among them.
    """

    data: int = 1
    tensor: int = 1
    context: int = 1
    pipeline: int = 1
    zero: Zero = 0
    micro_batch: int = 1
    accumulation: int = 1
    sequence: bool = True
    schedule: Schedule = "1f1b"
    virtual_stages: int = 1
    recompute: Recompute = "none"
    replicate: int = 1
    expert: int = 1

    @property
    def shard(self) -> int:
        """Data parallel groups over which ZeRO divides; the others have copies."""
        return self.data // self.replicate

    @property
    def zero_devices(self) -> int:
        """Devices over which ZeRO divides what they would all have: those of `shard`, and of each its context."""
        return self.shard * self.context

    @property
    def devices(self) -> int:
        """Devices that it takes."""
        return self.data * self.tensor * self.context * self.pipeline

    @property
    def batch(self) -> int:
        """Sequences that one optimizer step trains on."""
        return self.micro_batch * self.accumulation * self.data

    @property
    def least_batch(self) -> int:
        """The smallest batch that goes through, of which every other one is a multiple.

        With GPipe a pipeline may stand still for want of micro-batches; other schedules cannot do without.
        """
        return self.micro_batch * self.data * (1 if self.schedule == "gpipe" else self.pipeline)

    def check(self, shape: Shape) -> None:
        """UserError, with choices that are valid, where the model's parts do not divide over the groups."""
        for name in _SIZES:
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be at least 1")
        _divides("replicate", self.replicate, "data parallel groups", self.data)
        _divides("tensor", self.tensor, "model's key/value heads", shape.num_kv_heads)
        _divides("tensor", self.tensor, "model's feed-forward width", shape.feedforward_width)
        _divides("context", self.context, "model's context", shape.context)
        stages = self.pipeline * self.virtual_stages
        if stages > shape.num_layers:
            raise UserError(
                f"{stages} pipeline stages are more than the model's {shape.num_layers} layers; "
                f"use at most {shape.num_layers // self.virtual_stages}"
            )
        if (self.virtual_stages > 1) != (self.schedule == "interleaved"):
            raise UserError(
                f"virtual_stages={self.virtual_stages} does not go with the schedule {self.schedule}; interleaved "
                "needs 2 or more, gpipe and 1f1b need 1"
            )


def _divides(group: str, size: int, what: str, amount: int) -> None:
    if amount % size:
        choices = ", ".join(str(n) for n in range(1, min(amount, 64) + 1) if amount % n == 0)
        raise UserError(f"{group}={size} does not divide the {what} ({amount}); valid: {choices}")
