import math

import torch
from torch import nn

from groundup.model.feedforward import GELUFeedForward, SwiGLU

from .conftest import MakeShape


def _product(linear: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    product = x @ linear.weight.double().T
    return product if linear.bias is None else product + linear.bias.double()


def test_swiglu_is_its_formula(make_shape: MakeShape) -> None:
    torch.manual_seed(0)
    block, x = SwiGLU(make_shape("llama")), torch.randn(2, 3, 32)
    gate, up = _product(block.gate, x.double()), _product(block.up, x.double())
    expected = _product(block.down, gate / (1 + (-gate).exp()) * up)
    torch.testing.assert_close(block(x), expected.float(), rtol=1e-5, atol=1e-6)


def test_gelu_is_its_tanh_form_with_biases(make_shape: MakeShape) -> None:
    torch.manual_seed(0)
    block, x = GELUFeedForward(make_shape("gpt2")), torch.randn(2, 3, 32)
    up = _product(block.up, x.double())
    gelu = 0.5 * up * (1 + torch.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)))
    torch.testing.assert_close(block(x), _product(block.down, gelu).float(), rtol=1e-5, atol=1e-6)
