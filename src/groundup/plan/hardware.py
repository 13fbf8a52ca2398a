"""What a machine can do: the measured figures on which a plan rests."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

# What they mean: `groundup.train.precision`.
Precision: TypeAlias = Literal["fp32", "bf16", "bf16-weights", "fp16"]


@dataclass(frozen=True)
class Hardware:
    """A machine as measured: sustained matrix throughput in FLOP/s, memory in bytes and bytes/s."""

    name: str
    device: str
    threads: int
    memory_bytes: int
    flops_fp32: float
    flops_bf16: float
    memory_bandwidth: float

    @property
    def precision(self) -> Literal["fp32", "bf16"]:
        """The faster of the two; bfloat16 has to win clearly, since it costs accuracy."""
        return "bf16" if self.flops_bf16 > 1.3 * self.flops_fp32 else "fp32"

    def flops(self, precision: str) -> float:
        """Sustained matrix throughput in FLOP/s at this precision."""
        return self.flops_fp32 if precision == "fp32" else self.flops_bf16
