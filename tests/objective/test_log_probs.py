from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from groundup.model.registry import build
from groundup.objective import IGNORED, Batch, log_probs
from groundup.objective.log_probs import log_probs_and_entropy, log_probs_of, token_log_probs
from groundup.shape import Shape

V, D = 11, 5


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 rows a chunk."""
    monkeypatch.setattr(log_probs, "_CHUNK_BYTES", 1)
    monkeypatch.setattr(log_probs, "_LEAST_ROWS", 4)


def _given(dtype: torch.dtype = torch.float64, rows: int = 3, length: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(rows)
    x_BTD = torch.randn(rows, length, D, generator=random, dtype=dtype).requires_grad_()
    weight_VD = torch.randn(V, D, generator=random, dtype=dtype).requires_grad_()
    targets_BT = torch.randint(V, (rows, length), generator=random)
    targets_BT[torch.rand(rows, length, generator=random) < 0.3] = IGNORED
    return x_BTD, weight_VD, targets_BT


def _expected(x_BTD: Tensor, weight_VD: Tensor, targets_BT: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    all_BTV = (x_BTD @ weight_VD.T / temperature).log_softmax(-1)
    counted_BT = targets_BT != IGNORED
    found_BT = all_BTV.gather(-1, targets_BT.clamp(min=0)[..., None])[..., 0]
    return found_BT * counted_BT, -(all_BTV.exp() * all_BTV).sum(-1) * counted_BT


@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.5])
def test_values_entropies_and_gradients_are_those_of_a_log_softmax(temperature: float) -> None:
    x, weight, targets = _given()
    expected, expected_entropies = _expected(x, weight, targets, temperature)
    found, entropies = log_probs_and_entropy(x, weight, targets, temperature)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(entropies, expected_entropies, rtol=1e-12, atol=1e-12)
    assert not entropies.requires_grad
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    for mine, theirs in zip(
        torch.autograd.grad(found, (x, weight), upstream),
        torch.autograd.grad(expected, (x, weight), upstream),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_finite_differences() -> None:
    x, weight, targets = _given(rows=2, length=5)

    def found(x: Tensor, weight: Tensor) -> Tensor:
        return log_probs_of(x, weight, targets, 0.6)

    assert torch.autograd.gradcheck(found, (x, weight))


@pytest.mark.parametrize("frozen", ["x", "weight"])
def test_what_is_frozen_gets_no_gradient(frozen: str) -> None:
    x, weight, targets = _given()
    x.requires_grad_(frozen != "x")
    weight.requires_grad_(frozen != "weight")
    log_probs_of(x, weight, targets).sum().backward()
    assert (x.grad is None) == (frozen == "x") and (weight.grad is None) == (frozen == "weight")


def test_without_targets_everything_is_zero() -> None:
    x, weight, targets = _given()
    found, entropies = log_probs_and_entropy(x, weight, torch.full_like(targets, IGNORED))
    found.sum().backward()
    assert x.grad is not None and weight.grad is not None
    assert not any(tensor.any() for tensor in (found, entropies, x.grad, weight.grad))


def test_products_are_taken_in_the_dtype_of_autocast_and_the_rest_in_float32() -> None:
    x, weight, targets = _given(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = log_probs_of(x, weight, targets, 0.7)
    assert found.dtype == torch.float32
    rounded = x.detach().bfloat16().requires_grad_(), weight.detach().bfloat16().requires_grad_()
    logits = (rounded[0] @ rounded[1].T).float() / 0.7
    expected = logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0] * (targets != IGNORED)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    found.sum().backward()
    expected.sum().backward()
    assert x.grad is not None and x.grad.dtype == torch.float32
    torch.testing.assert_close(x.grad, rounded[0].grad.float(), rtol=2e-2, atol=2e-2)


class _LargestTensor(TorchDispatchMode):
    """The numbers of the largest tensor that any operator made."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return made


def test_logits_are_never_whole_in_memory() -> None:
    random = torch.Generator().manual_seed(0)
    rows, size = 64, 200
    x = torch.randn(1, rows, D, generator=random).requires_grad_()
    weight = torch.randn(size, D, generator=random).requires_grad_()
    targets = torch.randint(size, (1, rows), generator=random)
    with _LargestTensor() as largest:
        log_probs_and_entropy(x, weight, targets)[0].sum().backward()
    assert 4 * size <= largest.numbers < rows * size / 8


def test_a_models_log_probs_keep_to_documents_and_weights_are_tied() -> None:
    shape = Shape(
        family="qwen3", num_layers=1, width=8, num_heads=2, num_kv_heads=1, head_width=4, feedforward_width=8,
        vocabulary_size=V, context=7, tied=True,
    )  # fmt: skip
    model = build(shape, seed=1)
    _, _, targets = _given()
    inputs = torch.randint(V, targets.shape, generator=torch.Generator().manual_seed(1))
    documents = torch.tensor([0, 0, 0, 1, 1, 1, 1]).expand_as(inputs)
    found = token_log_probs(model, Batch(inputs, targets, documents), 0.5)
    logits = model(inputs, documents_BT=documents) / 0.5
    expected = logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0] * (targets != IGNORED)
    torch.testing.assert_close(found, expected)
    mine, theirs = (torch.autograd.grad(total.sum(), model.embedding.weight) for total in (found, expected))
    torch.testing.assert_close(mine, theirs)
