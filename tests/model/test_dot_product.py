import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from groundup.model.dot_product import _explicit, attend

HEADS, LENGTH, WIDTH = 6, 9, 8


def _tensors(num_kv_heads: int, dtype: torch.dtype, length: int = LENGTH) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query, key, value and an upstream gradient."""
    generator = torch.Generator().manual_seed(num_kv_heads)
    heads = (HEADS, num_kv_heads, num_kv_heads, HEADS)
    drawn = (torch.randn(2, count, length, WIDTH, generator=generator, dtype=torch.float64) for count in heads)
    query, key, value, upstream = (tensor.to(dtype) for tensor in drawn)
    return query, key, value, upstream


def _with_gradients(function, query: Tensor, key: Tensor, value: Tensor, upstream: Tensor) -> list[Tensor]:
    """The output, and the gradients of the three inputs."""
    inputs = [tensor.clone().requires_grad_() for tensor in (query, key, value)]
    output = function(*inputs)
    return [output.detach(), *torch.autograd.grad(output, inputs, upstream)]


def _fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What torch's own attention gives, the shared heads written out."""
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


@pytest.mark.parametrize("num_kv_heads", [1, 2, 3, 6])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_the_explicit_formula_is_the_fused_kernel(num_kv_heads: int, dtype: torch.dtype, tolerance: float) -> None:
    tensors = _tensors(num_kv_heads, dtype)
    ours, theirs = _with_gradients(_explicit, *tensors), _with_gradients(_fused, *tensors)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance)


def test_gradients_of_the_explicit_formula_are_numerical_derivatives() -> None:
    inputs = [tensor[:1, :, :4, :2].clone().requires_grad_() for tensor in _tensors(3, torch.float64)[:3]]
    assert torch.autograd.gradcheck(_explicit, inputs)


@pytest.mark.parametrize("num_kv_heads", [2, 6])
@pytest.mark.parametrize("length", [1, LENGTH, 600])
def test_training_in_bfloat16_on_the_cpu_is_near_float32(num_kv_heads: int, length: int) -> None:
    """Whichever path is taken, outputs and gradients keep the two to three digits that bfloat16 has."""
    tensors = _tensors(num_kv_heads, torch.bfloat16, length)
    exact = _with_gradients(_fused, *(tensor.float() for tensor in tensors))
    found = _with_gradients(lambda *inputs: attend(*inputs, None), *tensors)
    for mine, other in zip(found, exact, strict=True):
        assert mine.dtype == torch.bfloat16
        assert (mine.float() - other).norm() < 0.01 * other.norm() + 1e-6


@pytest.mark.parametrize("num_kv_heads", [2, 6])
def test_a_mask_chooses_what_is_looked_at(num_kv_heads: int) -> None:
    query, key, value, _ = _tensors(num_kv_heads, torch.float64)
    query = query[:, :, -3:]
    mask = torch.rand(3, LENGTH, generator=torch.Generator().manual_seed(0)) < 0.5
    mask[:, 0] = True
    output = attend(query, key, value, mask)
    for head in range(HEADS):
        shared = head // (HEADS // num_kv_heads)
        scores = query[:, head] @ key[:, shared].mT / WIDTH**0.5
        weights = scores.exp() * mask
        expected = weights / weights.sum(-1, keepdim=True) @ value[:, shared]
        torch.testing.assert_close(output[:, head], expected)


@pytest.mark.parametrize("num_kv_heads", [1, 2, 6])
@pytest.mark.parametrize("batched", [False, True])
def test_the_explicit_formula_takes_the_same_masks(num_kv_heads: int, batched: bool) -> None:
    """One mask for all, and one for each of the batch; against torch's own attention, gradients included."""
    tensors = _tensors(num_kv_heads, torch.float64)
    drawn = torch.rand(2, 1, LENGTH, LENGTH, generator=torch.Generator().manual_seed(0)) < 0.5
    mask = drawn.tril() | torch.eye(LENGTH, dtype=torch.bool)
    if not batched:
        mask = mask[0, 0]

    def fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)

    ours = _with_gradients(lambda *inputs: _explicit(*inputs, mask), *tensors)
    for mine, other in zip(ours, _with_gradients(fused, *tensors), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)
