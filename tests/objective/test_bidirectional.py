import math

import numpy as np
import pytest
import torch
from torch import nn

from groundup.errors import UserError
from groundup.objective import OBJECTIVES, Setting


class _Tables(nn.Module):
    """Logits of the next token, and of the one before, by the token alone: two bigram models."""

    def __init__(self) -> None:
        super().__init__()
        self.after, self.before = (
            nn.Parameter(torch.randn(7, 7, generator=torch.Generator().manual_seed(seed))) for seed in (0, 1)
        )

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.after[ids], self.before[ids]


def _surprise(logits: torch.Tensor, token: int) -> float:
    return -math.log(logits.double().softmax(-1)[token].item())


def test_each_token_is_predicted_from_either_side() -> None:
    batch = OBJECTIVES["bidirectional"](Setting()).collate(np.array([[1, 2, 3, 4]]))
    assert batch.inputs.tolist() == [[1, 2, 3, 4]]
    assert batch.targets.tolist() == [[[2, 3, 4], [1, 2, 3]]]
    assert batch.num_targets == 6


@pytest.mark.parametrize("training", [True, False])
def test_the_loss_is_the_mean_of_both_models(training: bool) -> None:
    """By a loop over tokens, while training and in evaluation, which counts what was held for the likeliest."""
    objective, model = OBJECTIVES["bidirectional"](Setting()), _Tables().train(training)
    windows = np.random.default_rng(0).integers(0, 7, (3, 6))
    loss = objective.loss(model, objective.collate(windows))
    left, right, correct = [], [], 0
    for window in windows.tolist():
        for place in range(5):
            one, other = window[place], window[place + 1]
            left.append(_surprise(model.after[one], other))
            right.append(_surprise(model.before[other], one))
            correct += int(model.after[one].argmax() == other) + int(model.before[other].argmax() == one)
    assert loss.num_targets == 30 and loss.num_correct == (None if training else correct)
    assert loss.mean.item() == pytest.approx((np.mean(left) + np.mean(right)) / 2, rel=1e-6)


def test_labels_are_smoothed_only_while_training() -> None:
    plain, smoothed = (OBJECTIVES["bidirectional"](Setting(label_smoothing=share)) for share in (0.0, 0.3))
    batch = plain.collate(np.random.default_rng(0).integers(0, 7, (3, 6)))
    model = _Tables()
    assert smoothed.loss(model, batch).mean.item() != plain.loss(model, batch).mean.item()
    model.eval()
    assert torch.equal(smoothed.loss(model, batch).mean, plain.loss(model, batch).mean)


def test_documents_cannot_be_kept_apart() -> None:
    with pytest.raises(UserError, match=r"leave data\.packing unset"):
        OBJECTIVES["bidirectional"](Setting(border=0))
