"""How long a training step takes on a machine whose matrix throughput and memory bandwidth are known."""

from groundup.plan.flops import train_flops_per_token
from groundup.plan.hardware import Hardware
from groundup.plan.memory import activation_bytes
from groundup.plan.parameters import total
from groundup.shape import Shape

# Fitted to measured steps of the shapes in the ladder (benchmarks/speed_model.py, figures in RESULTS.md).
# Products of narrow matrices do not reach the throughput of wide ones: half of it at this width.
_HALF_SPEED_WIDTH = 90
# How often a kept activation passes through memory over forward and backward.
_ACTIVATION_PASSES = 6.0
# Reading and writing weights, gradients and both moments, and the norm for clipping.
_STATE_PASSES_BYTES = 44
# Starting the operators of a layer, forward and backward.
_LAYER_SECONDS = 0.9e-3
_STEP_SECONDS = 2.0e-3


def step_seconds(shape: Shape, batch_size: int, hardware: Hardware, precision: str) -> float:
    """Seconds of one optimizer step over `batch_size` sequences."""
    tokens = batch_size * shape.context
    throughput = hardware.flops(precision) * shape.width / (shape.width + _HALF_SPEED_WIDTH)
    products = tokens * train_flops_per_token(shape) / throughput
    traffic = tokens * activation_bytes(shape, precision) * _ACTIVATION_PASSES / hardware.memory_bandwidth
    update = total(shape) * _STATE_PASSES_BYTES / hardware.memory_bandwidth
    return products + traffic + update + shape.num_layers * _LAYER_SECONDS + _STEP_SECONDS
