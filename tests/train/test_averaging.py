from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from groundup.run import read_rows
from groundup.train.averaging import WeightAverage
from groundup.train.checkpoints import list_checkpoints
from groundup.train.progress import StepProgress
from groundup.train.trainer import StepReport

from .conftest import STEPS, MakeTrainer, RecordingHooks, weights_of


def _expected(history: np.ndarray, decay: float) -> np.ndarray:
    """Of the weights after each step, in float64: sum of decay^(t - s) w_s over the sum of decay^(t - s)."""
    shares = decay ** np.arange(len(history) - 1, -1, -1, dtype=np.float64)
    return np.tensordot(shares, history.astype(np.float64), 1) / shares.sum()


@settings(deadline=None, max_examples=50)
@given(st.floats(0.01, 0.9999), st.integers(1, 40))
def test_it_is_the_weighted_mean_of_all_steps(decay: float, steps: int) -> None:
    model = nn.Linear(3, 2)
    average = WeightAverage(model, decay)
    generator, history = torch.Generator().manual_seed(steps), []
    for step in range(1, steps + 1):
        with torch.no_grad():
            model.weight.copy_(torch.randn(2, 3, generator=generator))
        history.append(model.weight.detach().numpy().copy())
        average.update(step)
    found = average.tensors()["weight"]
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), _expected(np.stack(history), decay), rtol=0, atol=2e-6)


def test_the_first_average_is_the_weights_themselves() -> None:
    model = nn.Linear(3, 2)
    average = WeightAverage(model, 0.999)
    average.update(1)
    assert torch.equal(average.tensors()["weight"], model.weight)


def test_in_place_for_a_while_and_after_an_error() -> None:
    model = nn.Linear(3, 2)
    average = WeightAverage(model, 0.5)
    average.update(1)
    with torch.no_grad():
        model.weight.add_(1.0)
    average.update(2)
    raw, averaged = model.weight.detach().clone(), average.tensors()["weight"].clone()
    assert not torch.equal(raw, averaged)
    for error in (None, ValueError):
        try:
            with average.in_place():
                assert torch.equal(model.weight, averaged)
                if error:
                    raise error
        except ValueError:
            pass
        assert torch.equal(model.weight, raw)
        assert torch.equal(average.tensors()["weight"], averaged)
    average.adopt()
    assert torch.equal(model.weight, averaged)


def test_another_models_average_is_refused() -> None:
    average = WeightAverage(nn.Linear(3, 2), 0.5)
    for other in (nn.Linear(1, 2), nn.Linear(3, 2, bias=False), nn.Embedding(3, 2)):
        with pytest.raises(RuntimeError, match="average"):
            average.load(WeightAverage(other, 0.5).tensors())


@pytest.mark.parametrize("precision", ["fp32", "bf16-weights"])
def test_a_run_is_measured_on_its_average_and_ends_with_it(
    make_trainer: MakeTrainer, tmp_path: Path, precision: str
) -> None:
    """Training itself is the same with and without."""
    history: list[dict[str, np.ndarray]] = []

    def note(report: StepReport) -> None:
        history.append({name: weight.detach().numpy().copy() for name, weight in trainer.model.named_parameters()})

    trainer = make_trainer(tmp_path / "with", ema=0.8, precision=precision, after_step=note)
    trainer.train(StepProgress(STEPS))
    plain = make_trainer(tmp_path / "without", precision=precision)
    plain.train(StepProgress(STEPS))
    assert all(
        (history[-1][name] == weight.detach().numpy()).all() for name, weight in plain.model.named_parameters()
    )
    for name, weight in trainer.model.named_parameters():
        expected = _expected(np.stack([step[name] for step in history]), 0.8)
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=0, atol=2e-6)
    last = list(read_rows(tmp_path / "with" / "metrics.jsonl"))[-1]
    hooks = trainer.hooks
    assert isinstance(hooks, RecordingHooks)
    assert last["val_loss"] == hooks.validate(trainer.model.eval()).loss
    assert last["val_loss"] != hooks.validate(plain.model.eval()).loss


def test_the_checkpoint_keeps_both_weights_and_average(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, ema=0.8)
    trainer.train(StepProgress(STEPS))
    averaged = weights_of(trainer)
    again = make_trainer(tmp_path, ema=0.8, seed=99)
    again.resume(list_checkpoints(tmp_path / "checkpoints")[0])
    assert weights_of(again) != averaged
    assert again.average is not None
    again.average.adopt()
    assert weights_of(again) == averaged
