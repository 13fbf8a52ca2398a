import math

import numpy as np
import pytest
import torch
from torch import nn

from groundup.errors import UserError
from groundup.objective import OBJECTIVES, Setting

LABELS = OBJECTIVES["labels"](Setting(label_smoothing=0.1))


class _Given(nn.Module):
    """The inputs are the logits."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values.double()


def test_padding_behind_the_longest_row_is_left_out() -> None:
    batch = LABELS.collate(np.array([[2, 5, 6, -1, -1], [0, 7, 8, 9, -1]]))
    assert batch.targets.tolist() == [2, 0]
    assert batch.inputs.tolist() == [[5, 6, -1], [7, 8, 9]]
    assert batch.num_targets == 2


def test_the_loss_is_the_surprise_at_the_label_smoothed_only_while_training() -> None:
    rows = np.array([[1, 0, 3, 1], [0, 2, 1, 1], [2, 0, 0, 0]])
    logits = rows[:, 1:].astype(float)
    log_chances = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    plain = -log_chances[[0, 1, 2], [1, 0, 2]]
    smooth = 0.9 * plain - 0.1 * log_chances.mean(1)
    batch = LABELS.collate(rows)
    judged = LABELS.loss(_Given().eval(), batch)
    assert math.isclose(float(judged.mean), plain.mean(), rel_tol=1e-6)
    assert (judged.num_targets, judged.num_correct) == (3, 2)
    trained = LABELS.loss(_Given().train(), batch)
    assert math.isclose(float(trained.mean), smooth.mean(), rel_tol=1e-6)
    assert trained.num_correct is None


def test_a_label_without_a_logit_is_refused() -> None:
    with pytest.raises(UserError, match=r"the label 3, but the model only the classes 0 to 2.*classes=4"):
        LABELS.loss(_Given(), LABELS.collate(np.array([[3, 1, 1, 1]])))
