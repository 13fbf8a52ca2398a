"""Measuring the machine: what it sustains in matrix products and memory traffic, in about two seconds."""

import psutil
import torch

from groundup.model.linear import product
from groundup.model.registry import build
from groundup.objective import CAUSAL
from groundup.plan.hardware import Hardware
from groundup.processor import bf16_instructions, processor_name
from groundup.recipe import TrainRecipe
from groundup.shape import Shape
from groundup.train.device import choose_device, set_threads, synchronise
from groundup.train.step import TrainStep
from groundup.train.timing import repeat

_MATRIX = 1024
_COPY_BYTES = 64 << 20


def measure(settings: TrainRecipe, processes: int = 1) -> Hardware:
    """Time square matrix products in both precisions and a large copy, and read what the system says.

    It is what one of so many `processes` on this machine can have of it.
    """
    device = choose_device(settings.device)
    threads = set_threads(settings.threads, processes)
    return Hardware(
        name=processor_name() if device == "cpu" else torch.cuda.get_device_name() if device == "cuda" else device,
        device=device,
        threads=threads,
        memory_bytes=_memory(device, processes),
        flops_fp32=_matrix_flops(torch.float32, device),
        flops_bf16=_matrix_flops(torch.bfloat16, device),
        memory_bandwidth=_copy_bandwidth(device),
        has_bf16=has_bf16(device),
    )


def measure_step_seconds(
    shape: Shape, batch_size: int, settings: TrainRecipe, hardware: Hardware, seconds: float = 0.4
) -> float:
    """The time of one training step of a model of this shape: the median of `seconds`, after a warm-up."""
    precision = hardware.precision if settings.precision == "auto" else settings.precision
    objective = CAUSAL
    model = build(shape, device=hardware.device)
    take_step = TrainStep(model, objective, settings, precision=precision, device=hardware.device)
    windows = torch.randint(0, shape.vocabulary_size, (batch_size, shape.context + 1)).numpy()

    def step() -> None:
        take_step(windows, 1e-6)

    return repeat(step, seconds=seconds).median


def _matrix_flops(dtype: torch.dtype, device: str) -> float:
    """FLOP/s of (1024, 1024) products, the median of many."""
    left, right = (torch.randn(_MATRIX, _MATRIX, device=device).to(dtype) for _ in range(2))

    def multiply() -> None:
        product(left, right)
        synchronise(device)

    return 2.0 * _MATRIX**3 / repeat(multiply, seconds=0.25).median


def _copy_bandwidth(device: str) -> float:
    """Bytes/s read and written by copying a buffer that no cache holds."""
    source = torch.zeros(_COPY_BYTES // 4, device=device)
    target = torch.zeros_like(source)

    def copy() -> None:
        target.copy_(source)
        synchronise(device)

    return 2.0 * _COPY_BYTES / repeat(copy, seconds=0.2).median


def _memory(device: str, processes: int) -> int:
    if device == "cuda":
        return int(torch.cuda.get_device_properties(0).total_memory)
    return int(psutil.virtual_memory().available) // processes


def has_bf16(device: str) -> bool | None:
    """Whether the device has instructions for bfloat16 products; None where that cannot be asked."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    instructions = bf16_instructions() if device == "cpu" else None
    return None if instructions is None else bool(instructions)
