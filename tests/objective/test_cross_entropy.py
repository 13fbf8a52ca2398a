from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from groundup.objective import cross_entropy
from groundup.objective.cross_entropy import chunked_cross_entropy


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 rows a chunk."""
    monkeypatch.setattr(cross_entropy, "_CHUNK_BYTES", 1)
    monkeypatch.setattr(cross_entropy, "_LEAST_ROWS", 16)


def _given(rows: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, 5, generator=random, dtype=dtype).requires_grad_()
    weight = torch.randn(11, 5, generator=random, dtype=dtype).requires_grad_()
    return x, weight, torch.randint(11, (rows,), generator=random)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("rows", [1, 15, 16, 17, 50])
def test_loss_and_gradients_are_those_of_torch(rows: int, smoothing: float) -> None:
    x, weight, targets = _given(rows)
    expected = F.cross_entropy(x @ weight.T, targets, label_smoothing=smoothing)
    loss = chunked_cross_entropy(x, weight, targets, smoothing)
    torch.testing.assert_close(loss, expected)
    for mine, theirs in zip(
        torch.autograd.grad(3 * loss, (x, weight)), torch.autograd.grad(3 * expected, (x, weight)), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_gradients_are_those_of_finite_differences(smoothing: float) -> None:
    x, weight, targets = _given(20)

    def loss(x: Tensor, weight: Tensor) -> Tensor:
        return chunked_cross_entropy(x, weight, targets, smoothing)

    assert torch.autograd.gradcheck(loss, (x, weight))


@pytest.mark.parametrize("frozen", ["x", "weight", "both"])
def test_what_is_frozen_gets_no_gradient(frozen: str) -> None:
    x, weight, targets = _given(20)
    x.requires_grad_(frozen == "weight")
    weight.requires_grad_(frozen == "x")
    loss = chunked_cross_entropy(x, weight, targets)
    torch.testing.assert_close(loss, F.cross_entropy(x @ weight.T, targets))
    assert loss.requires_grad == (frozen != "both")
    if frozen != "both":
        loss.backward()
        assert (x.grad is None) == (frozen == "x") and (weight.grad is None) == (frozen == "weight")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_products_are_taken_in_the_dtype_of_autocast(smoothing: float) -> None:
    x, weight, targets = _given(40, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = chunked_cross_entropy(x, weight, targets, smoothing)
    loss.backward()
    rounded = x.detach().bfloat16().requires_grad_(), weight.detach().bfloat16().requires_grad_()
    logits = (rounded[0] @ rounded[1].T).float()
    expected = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    assert loss.dtype == torch.float32 and x.grad is not None and x.grad.dtype == torch.float32
    # A probability rounded to bfloat16 is off by at most 2^-9 of itself, and so is its logarithm.
    torch.testing.assert_close(loss, expected, rtol=0, atol=2**-9)
    expected.backward()
    torch.testing.assert_close(x.grad, rounded[0].grad.float(), rtol=2e-2, atol=1e-3)
    torch.testing.assert_close(weight.grad, rounded[1].grad.float(), rtol=2e-2, atol=2e-3)


def test_an_impossible_target_keeps_the_loss_finite() -> None:
    """Its probability is below what a float32 can hold; the gradient is still that of torch."""
    x, weight = torch.tensor([[200.0]], requires_grad=True), torch.tensor([[1.0], [-1.0]], requires_grad=True)
    targets = torch.tensor([1])
    loss = chunked_cross_entropy(x, weight, targets)
    assert loss.isfinite() and loss > 80
    expected = torch.autograd.grad(F.cross_entropy(x @ weight.T, targets), (x, weight))
    for mine, theirs in zip(torch.autograd.grad(loss, (x, weight)), expected, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_logits_are_never_held(smoothing: float) -> None:
    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            if isinstance(made, Tensor):
                self.numel = max(self.numel, made.numel())
            return made

    x, weight, targets = _given(200)
    with Largest() as largest:
        chunked_cross_entropy(x, weight, targets, smoothing).backward()
    assert largest.numel == max(x.numel(), weight.numel(), 16 * 11)
