"""Floating-point operations of an operator that the profiler saw, from its name and the shapes given to it."""

from collections.abc import Callable, Sequence
from math import prod

Shapes = Sequence[Sequence[int]]


def operator_flops(name: str, shapes: Shapes) -> float:
    """2 a multiplication with its addition; 0 for what is no product of matrices. `name` is without `aten::`.

    Attention's fused kernels are counted as causal: half of the scores.
    """
    count = _COUNTS.get(name)
    if count is None:
        return 0.0
    try:
        return 2.0 * count([list(shape) for shape in shapes])
    except (IndexError, ValueError):  # a shape that the recorder did not see
        return 0.0


def _matrix(shapes: Shapes) -> int:
    """(..., N, K) by (..., K, M)."""
    return prod(shapes[0]) * shapes[1][-1]


def _added(shapes: Shapes) -> int:
    """The same, added to the first argument."""
    return _matrix(shapes[1:])


def _linear(shapes: Shapes) -> int:
    """(..., K) by the transpose of (M, K)."""
    return prod(shapes[0]) * shapes[1][0]


def _attention(shapes: Shapes) -> float:
    """Queries (B, H, T, d) and keys (B, K, S, d): the scores and the weighted sum, half of each."""
    return prod(shapes[0]) * shapes[1][-2]


def _attention_backward(shapes: Shapes) -> float:
    """Given the gradient first; five products instead of two."""
    return 2.5 * _attention(shapes[1:])


_COUNTS: dict[str, Callable[[Shapes], float]] = {
    "mm": _matrix,
    "bmm": _matrix,
    "_scaled_mm": _matrix,
    "addmm": _added,
    "baddbmm": _added,
    "_addmm_activation": _added,
    "_linear_pointwise": _linear,
    "mkldnn_linear": _linear,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
}
PRODUCTS = frozenset(name for name in _COUNTS if "attention" not in name)
"""Operators that multiply matrices and do nothing else."""
