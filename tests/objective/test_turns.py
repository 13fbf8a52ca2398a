"""The supervised objective: what counts, what does not, and that packed conversations do not see each other."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from groundup.data.turn_rows import packed_rows
from groundup.model.decoder import Decoder
from groundup.model.registry import build
from groundup.objective import OBJECTIVES, Setting
from groundup.recipe import TrainRecipe
from groundup.shape import Shape
from groundup.tokenizer.turns import Turns
from groundup.train.step import TrainStep

SUPERVISED = OBJECTIVES["supervised"](Setting())
LENGTH = 33


@pytest.fixture(params=["qwen3", "gpt2"])
def model(request: pytest.FixtureRequest) -> Decoder:
    grouped = 1 if request.param == "qwen3" else 2
    return build(
        Shape(
            family=request.param, num_layers=2, width=32, num_heads=2, num_kv_heads=grouped, head_width=16,
            feedforward_width=64, vocabulary_size=50, context=LENGTH - 1, tied=True,
        ),
        seed=3,
    ).double()  # fmt: skip


def conversations(lengths: list[int], seed: int = 0) -> list[Turns]:
    """The first half of each is a prompt."""
    rng = np.random.default_rng(seed)
    return [Turns(rng.integers(0, 50, n), np.arange(n) >= (n + 1) // 2) for n in lengths]


def rows(turns: list[Turns], packing: bool = True) -> npt.NDArray[np.int64]:
    return packed_rows(turns, LENGTH, 0, packing).in_order


def test_a_prompt_and_padding_contribute_nothing(model: Decoder) -> None:
    """The gradient at what predicts them is exactly zero, and at every word of the answer it is not."""
    windows = rows(conversations([20]))
    batch = SUPERVISED.collate(windows)
    features_BTD: list[torch.Tensor] = []
    features = model.features
    model.features = lambda *given, **named: _keep(features(*given, **named), features_BTD)  # type: ignore[method-assign]
    SUPERVISED.loss(model, batch).mean.backward()
    norms_T = features_BTD[-1].grad[0].norm(dim=-1)  # type: ignore[index]
    counted_T = windows[0, 1, 1:] > 0
    assert counted_T.sum() == 10
    assert (norms_T[~counted_T] == 0).all()
    assert (norms_T[counted_T] > 0).all()


def _keep(features_BTD: torch.Tensor, kept: list[torch.Tensor]) -> torch.Tensor:
    features_BTD.retain_grad()
    kept.append(features_BTD)
    return features_BTD


def test_packed_conversations_lose_as_if_each_were_alone(model: Decoder) -> None:
    """Rotary positions are relative, so that even where it stands in the window does not matter."""
    if model.positions is not None:
        torch.nn.init.zeros_(model.positions.weight)
    turns = conversations([9, 14, 10, 21, 6])
    packed, alone = rows(turns), rows(turns, packing=False)
    assert len(packed) < len(alone) == 5
    of_packed, of_alone = (SUPERVISED.loss(model, SUPERVISED.collate(some)) for some in (packed, alone))
    assert of_packed.num_targets == of_alone.num_targets == sum(len(turn) // 2 for turn in turns)
    torch.testing.assert_close(of_packed.mean, of_alone.mean, rtol=1e-12, atol=0)


def test_what_one_conversation_says_does_not_reach_its_neighbour(model: Decoder) -> None:
    turns = conversations([9, 14])
    first, second = rows(turns), rows([conversations([9], seed=5)[0], turns[1]])
    assert len(first) == len(second) == 1
    of_second = first[0, 2] == first[0, 2, np.flatnonzero(first[0, 0] != second[0, 0])[0]]
    answers = []
    for windows in (first, second):
        batch = SUPERVISED.collate(windows)
        answers.append(model.features(batch.inputs_BT, documents_BT=batch.documents_BT)[0])
    changed_T = (answers[0] != answers[1]).any(-1).numpy()
    assert changed_T.any()
    assert not changed_T[~of_second[:-1]].any()


def test_micro_batches_in_which_nothing_counts_are_no_nan(model: Decoder) -> None:
    """All of a step's targets in one of its micro-batches give the gradient of that one alone."""
    windows = rows(conversations([20, 20, 20, 20]), packing=False)
    windows[1:, 1] = 0
    settings = TrainRecipe(batch_size=4, micro_batch=1, lr=1e-3, optimizer="sgd", weight_decay=0.0)
    step = TrainStep(model, SUPERVISED, settings, precision="fp32", device="cpu")
    loss, num_targets = step.accumulate(windows)
    alone = SUPERVISED.loss(model, SUPERVISED.collate(windows[:1]))
    assert num_targets == alone.num_targets == 10
    assert loss == pytest.approx(float(alone.mean.detach()), rel=1e-12)
    found = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    alone.mean.backward()
    for one, other in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad, rtol=1e-9, atol=1e-12)


def test_a_batch_in_which_nothing_counts_moves_nothing(model: Decoder) -> None:
    windows = rows(conversations([20]))
    windows[:, 1] = 0
    settings = TrainRecipe(batch_size=1, lr=1e-2, optimizer="adamw", weight_decay=0.0)
    step = TrainStep(model, SUPERVISED, settings, precision="fp32", device="cpu")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = step(windows, 1e-2)
    assert (result.loss, result.grad_norm, result.num_targets) == (0.0, 0.0, 0)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
