"""The feed-forward block: what each token does with what it has gathered."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.model.linear import Linear
from groundup.shape import Shape


class GatedFeedForward(nn.Module):
    """down(activation(gate(x)) * up(x)), without biases (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, shape: Shape, activation: Callable[[Tensor], Tensor]):
        super().__init__()
        self.activation = activation
        self.gate = Linear(shape.width, shape.feedforward_width, bias=False)
        self.up = Linear(shape.width, shape.feedforward_width, bias=False)
        self.down = Linear(shape.feedforward_width, shape.width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.down(self.activation(self.gate(x_BTD)) * self.up(x_BTD))


class SwiGLU(GatedFeedForward):
    """With the SiLU as gate, as in Llama."""

    def __init__(self, shape: Shape):
        super().__init__(shape, F.silu)


class FeedForward(nn.Module):
    """down(activation(up(x)))."""

    def __init__(self, shape: Shape, activation: Callable[[Tensor], Tensor], *, bias: bool = True):
        super().__init__()
        self.activation = activation
        self.up = Linear(shape.width, shape.feedforward_width, bias=bias)
        self.down = Linear(shape.feedforward_width, shape.width, bias=bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.down(self.activation(self.up(x_BTD)))


class GELUFeedForward(FeedForward):
    """With the tanh form of GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415), as in GPT."""

    def __init__(self, shape: Shape):
        super().__init__(shape, gelu_tanh)


def gelu_tanh(x: Tensor) -> Tensor:
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    if torch.compiler.is_compiling():
        # The same through an exponential, which the compiler's loops have in vector form (tanh is 4 times slower).
        return x * torch.sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x * x * x))
    return F.gelu(x, approximate="tanh")
