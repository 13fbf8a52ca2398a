import numpy as np
import pytest
import torch
from torch import nn

from groundup.model.registry import build_any
from groundup.model.translator import Translator
from groundup.objective import IGNORED, OBJECTIVES, Objective, Setting
from groundup.recipe import TrainRecipe
from groundup.serve.beam import Search, beam_search
from groundup.shape import Shape
from groundup.train.step import TrainStep

END, SEPARATOR, PAD = 0, 1, 2
SPECIAL = {"<|endoftext|>": END, "<|sep|>": SEPARATOR, "<|pad|>": PAD}


def _objective(**changes: object) -> Objective:
    return OBJECTIVES["translation"](Setting(special=SPECIAL, **changes))


ROWS = np.array([[7, 8, 9, SEPARATOR, 5, END, -1, -1], [6, SEPARATOR, 3, 4, 5, 6, END, -1]])


def test_a_row_becomes_source_inputs_and_targets() -> None:
    batch = _objective().collate(ROWS)
    assert batch.source_BS.tolist() == [[7, 8, 9], [6, PAD, PAD]]
    assert batch.keep_BS.tolist() == [[True] * 3, [True, False, False]]
    assert batch.inputs_BT.tolist() == [[SEPARATOR, 5, PAD, PAD, PAD], [SEPARATOR, 3, 4, 5, 6]]
    assert batch.targets.tolist() == [[5, END, IGNORED, IGNORED, IGNORED], [3, 4, 5, 6, END]]
    assert batch.num_targets == 7
    assert all(tensor.dtype == torch.int64 for tensor in (batch.source_BS, batch.inputs_BT, batch.targets))


def test_a_full_row_fits() -> None:
    batch = _objective().collate(np.array([[7, SEPARATOR, 5, END]]))
    assert batch.targets.tolist() == [[5, END]]


class _Fixed(nn.Module):
    """Logits that are parameters, whatever is read."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.randn(2, 5, 10, generator=torch.Generator().manual_seed(0)))

    def forward(self, source_BS: torch.Tensor, keep_BS: torch.Tensor, target_BT: torch.Tensor) -> torch.Tensor:
        return self.logits


def test_the_loss_is_the_mean_surprise_of_the_targets_alone() -> None:
    model, objective = _Fixed(), _objective()
    loss = objective.loss(model.eval(), objective.collate(ROWS))
    asked = [(0, 0, 5), (0, 1, END), (1, 0, 3), (1, 1, 4), (1, 2, 5), (1, 3, 6), (1, 4, END)]
    likelihoods = model.logits.detach().double().softmax(-1)
    surprise = -sum(np.log(float(likelihoods[place])) for place in asked) / 7
    assert loss.mean.item() == pytest.approx(surprise, abs=1e-6)
    assert loss.num_targets == 7
    assert loss.num_correct == sum(int(model.logits[row, t].argmax()) == token for row, t, token in asked)
    loss.mean.backward()
    assert not model.logits.grad[0, 2:].any()
    assert model.logits.grad[1].all()


def test_labels_are_smoothed_while_training_only() -> None:
    """0.9 of the surprise of the target, and 0.1 of the mean surprise of all tokens (Szegedy et al. 2016)."""
    model, objective = _Fixed(), _objective(label_smoothing=0.1)
    batch = objective.collate(ROWS)
    plain = float(objective.loss(model.eval(), batch).mean.detach())
    surprises = -model.logits.detach().log_softmax(-1).mean(-1)
    spread = float(torch.cat([surprises[0, :2], surprises[1]]).mean())
    assert float(objective.loss(model.train(), batch).mean.detach()) == pytest.approx(0.9 * plain + 0.1 * spread)


def _shape(**options: object) -> Shape:
    return Shape(
        family="transformer",
        num_layers=1,
        width=32,
        num_heads=2,
        num_kv_heads=2,
        head_width=16,
        feedforward_width=64,
        vocabulary_size=13,
        context=10,
        options=options,
    )


def _reversals(count: int, generator: np.random.Generator) -> np.ndarray:
    """Rows of 2 to 4 digits and the same the other way round."""
    rows = np.full((count, 11), -1)
    for row in rows:
        digits = generator.integers(3, 13, generator.integers(2, 5))
        filled = [*digits, SEPARATOR, *digits[::-1], END]
        row[: len(filled)] = filled
    return rows


@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_model_learns_to_write_backwards(pre_norm: bool) -> None:
    """By the beam search that `groundup translate` uses; a guess is right once in 100 at best."""
    generator, objective = np.random.default_rng(0), _objective()
    model = build_any(_shape(pre_norm=pre_norm), seed=1)
    assert isinstance(model, Translator)
    step = TrainStep(model, objective, TrainRecipe(), precision="fp32", device="cpu")
    for number in range(150):
        step(_reversals(64, generator), lr=2e-2 * min(1.0, number / 20, (150 - number) / 75))
    batch = objective.collate(_reversals(200, generator))
    found = beam_search(model.eval(), batch.source_BS, batch.keep_BS, Search(SEPARATOR, END, 10, beams=2))
    sources = [row[keep].tolist() for row, keep in zip(batch.source_BS, batch.keep_BS, strict=True)]
    right = [targets[0].ids == source[::-1] for source, targets in zip(sources, found, strict=True)]
    assert np.mean(right) > 0.9
