"""Matrix products in float32, by the library that is fast on this processor.

PyTorch gives float32 products to MKL, which on AMD's processors takes a generic path at about half the speed of
oneDNN, the library that PyTorch uses for bfloat16 (figures: benchmarks/RESULTS.md). There, and only there, oneDNN
is called by name. The choice rests on the processor's maker, not on a measurement: a run that is resumed must
compute the same numbers.
"""

import platform
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Below so many rows a product waits for memory, and either library is as good.
_LEAST_ROWS = 32
# oneDNN is slow at the weight's gradient of small matrices, whose both factors are transposed.
_LEAST_WEIGHT = 1 << 17


def _processor_maker() -> str:
    """What the system says of the processor; on Linux the maker stands in /proc/cpuinfo only."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        with information.open(errors="replace") as lines:
            return next((line for line in lines if line.startswith("vendor_id")), "")
    return platform.processor()


# A constant of the process, since compiled code may branch on it.
ONEDNN_IS_FASTER = (
    torch.backends.mkl.is_available()
    and torch.backends.mkldnn.is_available()
    and "AuthenticAMD" in _processor_maker()
)


class Linear(nn.Linear):
    """`torch.nn.Linear`, with fast float32 products: (..., in) -> (..., out)."""

    def forward(self, x: Tensor) -> Tensor:
        """x weight^T + bias."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`, with fast float32 products: (..., in) -> (..., out)."""
    if _is_float32(x) and ONEDNN_IS_FASTER:
        made: Tensor = _Linear.apply(x, weight_OI, bias_O)
        return made
    return F.linear(x, weight_OI, bias_O)


def product(x_NI: Tensor, y_OI: Tensor) -> Tensor:
    """x y^T, (N, O); both of one dtype. No gradient in float32: for code that has its own backward pass."""
    if _is_float32(x_NI) and ONEDNN_IS_FASTER:
        return _onednn(x_NI, y_OI)
    return x_NI @ y_OI.T


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight_OI)
        ctx.has_bias = bias_O is not None
        return _onednn(x, weight_OI, bias_O)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_OI = ctx.saved_tensors
        grad_NO = grad.flatten(0, -2)
        grad_x = _onednn(grad, weight_OI.T) if ctx.needs_input_grad[0] else None
        grad_weight = None
        if ctx.needs_input_grad[1]:
            # As the weight of a product: oneDNN takes rows with gaps between them a thousand times slower.
            x_NI = x.flatten(0, -2).contiguous()
            large = weight_OI.numel() >= _LEAST_WEIGHT
            grad_weight = _onednn(grad_NO.T, x_NI.T) if large else grad_NO.T @ x_NI
        return grad_x, grad_weight, grad_NO.sum(0) if ctx.has_bias else None


def _onednn(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    if torch.compiler.is_compiling():
        return _opaque_onednn(x, weight_OI, bias_O)
    made: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight_OI, bias_O, "none", [], "")
    return made


@torch.library.custom_op("groundup::linear", mutates_args=())
def _opaque_onednn(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """The same for the compiler, which takes the operator's weights for constants of an inference."""
    made: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight_OI, bias_O, "none", [], "")
    return made


@_opaque_onednn.register_fake
def _(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    del bias_O
    return x.new_empty(*x.shape[:-1], weight_OI.shape[0])


def _is_float32(x: Tensor) -> bool:
    """Whether `x` enters a float32 product on the CPU that is large enough.

    Tensors of other classes, such as those divided over devices, do not know of a product called by name.
    """
    if type(x) not in {Tensor, nn.Parameter}:
        return False
    on_cpu = x.dtype == torch.float32 and x.device.type == "cpu" and x.dim() > 1
    return on_cpu and not torch.is_autocast_enabled("cpu") and x.numel() >= _LEAST_ROWS * x.shape[-1]
