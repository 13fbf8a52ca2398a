import math
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from groundup.objective import OBJECTIVES, Batch, Setting
from groundup.objective.causal import CAUSAL


class _Table(nn.Module):
    """Logits of the next token by the token before it: a bigram model, whose loss a loop can compute."""

    def __init__(self, vocabulary_size: int, dtype: torch.dtype):
        super().__init__()
        drawn = torch.randn(vocabulary_size, vocabulary_size, generator=torch.Generator().manual_seed(0))
        self.logits = nn.Parameter((3 * drawn).to(dtype))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.logits[ids]


class _Uniform(nn.Module):
    """All of 50,000 tokens are equally likely, always."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*ids.shape, 50_000, dtype=torch.bfloat16)


def _windows() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 7, (3, 6))


def test_targets_are_one_token_ahead() -> None:
    windows = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    batch = CAUSAL.collate(windows)
    assert batch.inputs_BT.tolist() == [[1, 2, 3], [5, 6, 7]]
    assert batch.targets_BT.tolist() == [[2, 3, 4], [6, 7, 8]]
    assert all(tensor.dtype == torch.int64 and tensor.is_contiguous() for tensor in batch[:2])


def test_the_loss_is_the_mean_surprise_in_nats() -> None:
    windows, model = _windows(), _Table(7, torch.float32)
    loss = CAUSAL.loss(model, CAUSAL.collate(windows))
    surprises = []
    for window in windows:
        for before, after in pairwise(window):
            weights = [math.exp(value) for value in model.logits[before].tolist()]
            surprises.append(-math.log(weights[after] / sum(weights)))
    assert loss.num_targets == len(surprises) == 15
    assert abs(loss.mean.item() - sum(surprises) / len(surprises)) < 1e-6


def test_the_gradient_is_what_was_said_less_what_was_true() -> None:
    """d loss / d logits = (softmax - one-hot) / N."""
    windows, model = _windows(), _Table(7, torch.float32)
    CAUSAL.loss(model, CAUSAL.collate(windows)).mean.backward()
    expected = torch.zeros(7, 7, dtype=torch.float64)
    for window in windows:
        for before, after in pairwise(window):
            expected[before] += model.logits.detach()[before].double().softmax(-1)
            expected[before, after] -= 1
    torch.testing.assert_close(model.logits.grad, (expected / 15).float(), rtol=1e-5, atol=1e-6)


def test_the_loss_is_taken_in_float32() -> None:
    """Summed in bfloat16, equal logits would give ln 50000 = 10.82 only to two digits."""
    loss = CAUSAL.loss(_Uniform(), CAUSAL.collate(np.zeros((1, 3), np.int64)))
    assert loss.mean.dtype == torch.float32
    assert abs(float(loss.mean) - math.log(50_000)) < 1e-5


def test_a_batch_moves_as_a_whole() -> None:
    batch = CAUSAL.collate(_windows()).to("meta")
    assert isinstance(batch, Batch)
    assert {tensor.device.type for tensor in (batch.inputs_BT, batch.targets_BT)} == {"meta"}


def test_objectives_are_found_by_name() -> None:
    assert OBJECTIVES["causal"](Setting()).in_nats_per_token
