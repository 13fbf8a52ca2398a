"""Normalisation: keeping activations at unit scale so that depth does not blow them up."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Divide by the root mean square, then scale (Zhang and Sennrich 2019, arXiv:1910.07467).

    Input and output: (..., width) of any float type; the statistics are taken in float32.
    """

    def __init__(self, width: int, epsilon: float):
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.epsilon).to(_output_type(x))


class LayerNorm(nn.Module):
    """Subtract the mean, divide by the standard deviation, scale and shift (Ba et al. 2016, arXiv:1607.06450)."""

    def __init__(self, width: int, epsilon: float):
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        normed = F.layer_norm(x.float(), self.weight.shape, self.weight.float(), self.bias.float(), self.epsilon)
        return normed.to(_output_type(x))


def _output_type(x: Tensor) -> torch.dtype:
    """That of `x`; under autocast the type of the products that follow, shortened once for all that read it."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
