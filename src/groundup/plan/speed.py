"""How long a training step takes on a machine whose matrix throughput and memory bandwidth are known."""

from groundup.plan.flops import train_flops_per_token
from groundup.plan.hardware import Hardware
from groundup.plan.parameters import total
from groundup.shape import Shape

# Fitted by benchmarks/speed_model.py to measured steps of the ladder: median error 8 %, largest 27 %.
# Products of narrow matrices do not reach the throughput of wide ones, and what is not a product (norms, softmax,
# copies) weighs more beside them: half of the throughput remains at this width.
_HALF_SPEED_WIDTH = 230
# Reading and writing weights, gradients and both moments, and the norm for clipping.
_STATE_PASSES_BYTES = 44
# Starting the operators of a layer, forward and backward.
_LAYER_SECONDS = 1.5e-3
_STEP_SECONDS = 2.0e-3


def step_seconds(shape: Shape, batch_size: int, hardware: Hardware, precision: str) -> float:
    """Seconds of one optimizer step over `batch_size` sequences."""
    tokens = batch_size * shape.context
    throughput = hardware.flops(precision) * shape.width / (shape.width + _HALF_SPEED_WIDTH)
    products = tokens * train_flops_per_token(shape) / throughput
    update = total(shape) * _STATE_PASSES_BYTES / hardware.memory_bandwidth
    return products + update + shape.num_layers * _LAYER_SECONDS + _STEP_SECONDS
