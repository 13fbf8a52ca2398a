import platform
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from groundup.model import linear
from groundup.model.linear import Linear, product

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN"
)


@pytest.fixture(params=[False, pytest.param(True, marks=needs_onednn)], ids=["torch", "onednn"])
def onednn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both libraries, whatever the processor."""
    monkeypatch.setattr(linear, "ONEDNN_IS_FASTER", request.param)
    return bool(request.param)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("width", "outputs"), [(24, 40), (512, 384)])
def test_outputs_and_gradients_are_those_of_float64(onednn: bool, bias: bool, width: int, outputs: int) -> None:
    torch.manual_seed(0)
    layer = Linear(width, outputs, bias=bias)
    x = torch.randn(3, 17, width, requires_grad=True)
    made = layer(x)
    assert ("Linear" in type(made.grad_fn).__name__) == onednn
    (made.sin().sum()).backward()
    exact = [
        None if tensor is None else tensor.detach().double().requires_grad_()
        for tensor in (x, layer.weight, layer.bias)
    ]
    expected = F.linear(*exact)
    expected.sin().sum().backward()
    torch.testing.assert_close(made.double(), expected, rtol=1e-5, atol=1e-5)
    for mine, theirs in zip((x, layer.weight, layer.bias), exact, strict=True):
        if mine is not None:
            torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-4, atol=1e-4)


def test_what_is_frozen_gets_no_gradient(onednn: bool) -> None:
    layer = Linear(8, 8)
    layer.weight.requires_grad_(False)
    x = torch.randn(64, 8)
    layer(x).sum().backward()
    assert layer.weight.grad is None and layer.bias.grad is not None


def test_other_types_and_autocast_go_to_torch(onednn: bool) -> None:
    layer, x = Linear(8, 8), torch.randn(64, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer.double()(x.double()).dtype == torch.float64


def test_a_product_is_that_of_float64_for_transposed_factors_too(onednn: bool) -> None:
    x, y = torch.randn(70, 33), torch.randn(50, 33)
    torch.testing.assert_close(product(x, y).double(), x.double() @ y.double().T, rtol=1e-5, atol=1e-5)
    wide, other = torch.randn(33, 70), torch.randn(33, 50)
    torch.testing.assert_close(
        product(wide.T, other.T).double(), wide.T.double() @ other.double(), rtol=1e-5, atol=1e-5
    )


def test_the_choice_follows_the_processor() -> None:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else platform.processor()
    assert ("AuthenticAMD" in text) >= linear.ONEDNN_IS_FASTER
