"""How long a training step takes on a machine whose matrix throughput and memory bandwidth are known.

A step is a sum of parts: products at the measured throughput, what is read and written at the measured bandwidth,
and the starting of operators. Each part has a weight, by default those fitted to one processor; a machine that was
calibrated has its own (`groundup.plan.calibration`).
"""

from collections.abc import Mapping

from groundup.plan.flops import forward_flops_per_token
from groundup.plan.hardware import Hardware
from groundup.plan.memory import EXPLICIT_UP_TO
from groundup.plan.optimizer_memory import hidden_matrices
from groundup.plan.parameters import total
from groundup.recipe import TrainRecipe
from groundup.shape import Shape, family

_PLAIN = TrainRecipe()
# Iterations of Newton-Schulz in a step of Muon (`groundup.train.optimizers.muon`).
_NEWTON_SCHULZ_STEPS = 5

# Fitted by benchmarks/planner_machine.py to steps of many shapes on 2 cores of an EPYC (Zen 5).
WEIGHTS: Mapping[str, float] = {
    "products": 0.98,
    "unembedding": 0.94,
    "attention": 6.0,
    "fused": 4.4,
    "scores": 5.5,
    "elements": 18.5,
    "logits": 20.0,
    "weights": 39.0,
    "orthogonal": 1.15,
    "layers": 1.2e-3,
    "step": 4.0e-3,
}


def step_seconds(
    shape: Shape, batch_size: int, hardware: Hardware, precision: str, settings: TrainRecipe = _PLAIN
) -> float:
    """Seconds of one optimizer step over `batch_size` sequences; of `settings` optimizer and recompute count."""
    weights = hardware.speed or WEIGHTS
    parts = step_parts(shape, batch_size, hardware, precision, settings)
    return sum(weights[name] * amount for name, amount in parts.items())


def step_parts(
    shape: Shape, batch_size: int, hardware: Hardware, precision: str, settings: TrainRecipe = _PLAIN
) -> dict[str, float]:
    """The parts of a step that the weights belong to: seconds at the machine's rates, and counts of operators.

    products, unembedding, orthogonal: FLOPs over throughput; attention, fused: the same by the plain formula and
    by a fused kernel, which works in float32; scores, elements, logits, weights: bytes of attention's scores, of
    the values between products, of the logits and of parameters, each once, over bandwidth; layers, step: counts.
    """
    tokens = batch_size * shape.context
    size = 4 if precision == "fp32" else 2
    throughput, bandwidth = hardware.flops(precision), hardware.memory_bandwidth
    again = 4 / 3 if settings.recompute == "full" else 1.0
    between = 1.0 if settings.recompute == "none" else 4 / 3

    query = shape.num_heads * shape.head_width
    unembedding = 2.0 * shape.vocabulary_size * shape.width
    scores = 2.0 * shape.num_layers * query * shape.context  # what the causal half takes of it
    blocks = forward_flops_per_token(shape) - unembedding - scores
    explicit = precision != "fp32" and shape.context <= EXPLICIT_UP_TO
    traits = family(shape.family)
    values = 8 * shape.width + 4 * query + (4 if traits.feedforward == "swiglu" else 2) * shape.feedforward_width
    if shape.experts_per_token:
        values += 4 * shape.experts_per_token * shape.width  # to the experts and back
    if traits.qk_norm:
        values += 2 * (query + shape.num_kv_heads * shape.head_width)

    attention = between * 3 * tokens * scores
    return {
        "products": again * 3 * tokens * blocks / throughput,
        "unembedding": 3 * tokens * unembedding / throughput,
        "attention": attention / throughput if explicit else 0.0,
        "fused": 0.0 if explicit else attention / hardware.flops_fp32,
        "scores": between * tokens * shape.num_layers * shape.num_heads * shape.context * size / bandwidth
        if explicit
        else 0.0,
        "elements": between * tokens * shape.num_layers * values * size / bandwidth,
        "logits": tokens * shape.vocabulary_size * size / bandwidth,
        "weights": 4 * total(shape) / bandwidth,
        "orthogonal": _newton_schulz_flops(shape) / hardware.flops_bf16 if settings.optimizer == "muon" else 0.0,
        "layers": float(shape.num_layers),
        "step": 1.0,
    }


def _newton_schulz_flops(shape: Shape) -> float:
    """Three products an iteration (Jordan et al. 2024, Muon), of the short side with both."""
    flops = 0.0
    for rows, columns in hidden_matrices(shape):
        short, long = min(rows, columns), max(rows, columns)
        flops += _NEWTON_SCHULZ_STEPS * (4.0 * short**2 * long + 2.0 * short**3)
    return flops
