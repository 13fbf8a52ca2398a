"""The feed-forward block: what each token does with what it has gathered."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.model.linear import Linear
from groundup.shape import Shape


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)) (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.gate = Linear(shape.width, shape.feedforward_width, bias=False)
        self.up = Linear(shape.width, shape.feedforward_width, bias=False)
        self.down = Linear(shape.feedforward_width, shape.width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.down(F.silu(self.gate(x_BTD)) * self.up(x_BTD))


class GELUFeedForward(nn.Module):
    """down(gelu(up(x))) with biases and the tanh form of GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415)."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.up = Linear(shape.width, shape.feedforward_width)
        self.down = Linear(shape.feedforward_width, shape.width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.down(_gelu(self.up(x_BTD)))


def _gelu(x: Tensor) -> Tensor:
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    if torch.compiler.is_compiling():
        # The same through an exponential, which the compiler's loops have in vector form (tanh is 4 times slower).
        return x * torch.sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x * x * x))
    return F.gelu(x, approximate="tanh")
