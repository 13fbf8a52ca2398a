import pytest
import torch

from groundup.model.norm import LayerNorm, RMSNorm

EPSILON = 1e-3  # large enough to show if it stood in the wrong place


@pytest.mark.parametrize(("ours", "theirs"), [(RMSNorm, torch.nn.RMSNorm), (LayerNorm, torch.nn.LayerNorm)])
def test_values_and_gradients_are_those_of_torch(ours: type, theirs: type) -> None:
    torch.manual_seed(0)
    norm, reference = ours(12, EPSILON), theirs(12, eps=EPSILON)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_()
    reference.load_state_dict(norm.state_dict())
    x, upstream = 0.1 * torch.randn(2, 3, 5, 12), torch.randn(2, 3, 5, 12)
    x_ours, x_theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    norm(x_ours).backward(upstream)
    reference(x_theirs).backward(upstream)
    torch.testing.assert_close(norm(x), reference(x), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(x_ours.grad, x_theirs.grad, rtol=1e-5, atol=1e-5)
    for name, parameter in norm.named_parameters():
        torch.testing.assert_close(parameter.grad, reference.get_parameter(name).grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [RMSNorm, LayerNorm])
def test_statistics_are_taken_in_float32(kind: type) -> None:
    """The squares of these numbers overflow half precision, whose largest number is 65504."""
    x = torch.linspace(-2000, 2000, 64).half()
    normed = kind(64, 1e-6)(x)
    assert normed.dtype == torch.float16
    torch.testing.assert_close(normed.float(), kind(64, 1e-6)(x.float()), rtol=1e-3, atol=1e-3)


def test_rms_norm_keeps_no_scale() -> None:
    x = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    norm = RMSNorm(16, 1e-12)
    torch.testing.assert_close(norm(x), norm(1000 * x))
    torch.testing.assert_close(norm(x).square().mean(-1), torch.ones(4))
