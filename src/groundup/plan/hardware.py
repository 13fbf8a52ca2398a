"""What a machine can do: the measured figures on which a plan rests."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

# What they mean: `groundup.train.precision`.
Precision: TypeAlias = Literal["fp32", "bf16", "bf16-weights", "fp16"]


@dataclass(frozen=True)
class Hardware:
    """A machine as measured: sustained matrix throughput in FLOP/s, memory in bytes and bytes/s.

    `has_bf16` says whether it has instructions for bfloat16 products, None where that cannot be asked. `speed`
    holds the weights of `groundup.plan.speed` where the machine was calibrated.
    """

    name: str
    device: str
    threads: int
    memory_bytes: int
    flops_fp32: float
    flops_bf16: float
    memory_bandwidth: float
    has_bf16: bool | None = None
    speed: Mapping[str, float] | None = None

    @property
    def precision(self) -> Literal["fp32", "bf16"]:
        """bfloat16 where the processor has instructions for it; elsewhere if it is clearly the faster one.

        What is measured depends on the load, and a recipe must not train in another precision for that.
        """
        if self.has_bf16 is not None:
            return "bf16" if self.has_bf16 else "fp32"
        return "bf16" if self.flops_bf16 > 1.3 * self.flops_fp32 else "fp32"

    def flops(self, precision: str) -> float:
        """Sustained matrix throughput in FLOP/s at this precision."""
        return self.flops_fp32 if precision == "fp32" else self.flops_bf16
