"""The feed-forward block: what each token does with what it has gathered."""

import torch.nn.functional as F
from torch import Tensor, nn

from groundup.shape import Shape


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)) (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.gate = nn.Linear(shape.width, shape.feedforward_width, bias=False)
        self.up = nn.Linear(shape.width, shape.feedforward_width, bias=False)
        self.down = nn.Linear(shape.feedforward_width, shape.width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.down(F.silu(self.gate(x_BTD)) * self.up(x_BTD))


class GELUFeedForward(nn.Module):
    """down(gelu(up(x))) with biases and the tanh form of GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415)."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.up = nn.Linear(shape.width, shape.feedforward_width)
        self.down = nn.Linear(shape.feedforward_width, shape.width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.down(F.gelu(self.up(x_BTD), approximate="tanh"))
