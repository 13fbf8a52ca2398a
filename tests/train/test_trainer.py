import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim import Optimizer

from groundup.data import Shards
from groundup.objective import CAUSAL
from groundup.run import read_rows
from groundup.train.progress import StepProgress
from groundup.train.schedules import share_of_peak

from .conftest import BATCH, CONTEXT, NOISE, STEPS, VOCABULARY, MakeTrainer, metrics_of, steps_of, weights_of


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_loss_falls_from_a_guess_below_the_unigram_entropy(
    make_trainer: MakeTrainer, shards: Shards, tmp_path: Path, precision: str
) -> None:
    """Only a model that looks at the token before can do that; none can do better than the noise allows."""
    counts = np.bincount(shards.read(0, shards.num_tokens), minlength=VOCABULARY) / shards.num_tokens
    unigram = -float((counts * np.log(counts)).sum())
    other = NOISE / VOCABULARY
    hit = 1 - NOISE + other
    floor = -hit * math.log(hit) - (VOCABULARY - 1) * other * math.log(other)
    trainer = make_trainer(tmp_path, precision=precision)
    trainer.train(StepProgress(150))
    losses = [row["loss"] for row in steps_of(tmp_path)]
    assert losses[0] == pytest.approx(math.log(VOCABULARY), abs=0.1)
    assert floor - 0.15 < np.mean(losses[-20:]) < 0.5 * unigram


def test_the_same_seed_gives_the_same_run(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_trainer(tmp_path / name, seed=seed).train(StepProgress(5))
    first, again, other = (metrics_of(tmp_path / name) for name in "abc")
    assert first == again != other


def test_rows_say_what_was_done(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    settings = {"schedule": "cosine", "warmup": 0.3, "final_lr": 0.1, "clip": 0.5}
    trainer = make_trainer(tmp_path, **settings)
    seen: list[tuple[float, float]] = []

    def note(optimizer: Optimizer, *_: object) -> None:
        gradients = [weight.grad for group in optimizer.param_groups for weight in group["params"]]
        norm = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients))
        seen.append((optimizer.param_groups[0]["lr"], norm))

    trainer.take_step.optimizer.register_step_pre_hook(note)
    state = trainer.train(StepProgress(STEPS))
    rows = list(read_rows(tmp_path / "metrics.jsonl"))
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, STEPS + 1))
    assert [row["tokens"] for row in steps] == [step * BATCH * CONTEXT for step in range(1, STEPS + 1)]
    assert (state.step, state.tokens) == (STEPS, STEPS * BATCH * CONTEXT)
    assert all(earlier["seconds"] < later["seconds"] for earlier, later in pairwise(steps))
    for report, row, (lr, norm) in zip(trainer.hooks.reports, steps, seen, strict=True):
        assert row["lr"] == lr == 1e-2 * share_of_peak("cosine", report.fraction, 0.3, 0.1)
        assert norm == pytest.approx(min(row["grad_norm"], 0.5), rel=1e-4)
    assert max(row["grad_norm"] for row in steps) > 0.5  # something was clipped
    assert [report.state.step for report in trainer.hooks.reports] == list(range(1, STEPS + 1))


def test_the_held_out_text_is_measured_as_often_as_asked(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, validations=4)
    trainer.train(StepProgress(STEPS))
    rows = [row for row in metrics_of(tmp_path) if "val_loss" in row]
    assert [row["step"] for row in rows] == trainer.hooks.validated
    assert len(rows) == 4
    assert rows[-1]["step"] == STEPS
    assert rows[-1]["val_bits_per_byte"] == pytest.approx(rows[-1]["val_loss"] / math.log(2))
    gaps = np.diff([0, *trainer.hooks.validated])
    assert gaps.max() - gaps.min() <= 2


def test_the_first_step_learns(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    before = weights_of(trainer)
    trainer.train(StepProgress(1))
    assert weights_of(trainer) != before


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 4, 9, None])
def test_micro_batches_add_up_to_the_batch(
    make_trainer: MakeTrainer, tmp_path: Path, micro_batch: int | None
) -> None:
    """Loss and gradient of the whole batch, taken at once; 3 of 4 leaves a smaller last micro-batch."""
    trainer = make_trainer(tmp_path, micro_batch=micro_batch)
    with torch.no_grad():  # away from the start, where most gradients are zero
        generator = torch.Generator().manual_seed(0)
        for weight in trainer.model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)
    windows = trainer.batches.windows(0, BATCH)
    expected = CAUSAL.loss(trainer.model, CAUSAL.collate(windows)).mean
    names = [name for name, _ in trainer.model.named_parameters()]
    gradients = dict(zip(names, torch.autograd.grad(expected, trainer.model.parameters()), strict=True))
    assert trainer.take_step.accumulate(windows)[0] == pytest.approx(expected.item(), rel=1e-6)
    for name, weight in trainer.model.named_parameters():
        torch.testing.assert_close(weight.grad, gradients[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_a_run_in_micro_batches_is_the_same_run(
    make_trainer: MakeTrainer, tmp_path: Path, micro_batch: int
) -> None:
    make_trainer(tmp_path / "whole").train(StepProgress(STEPS))
    make_trainer(tmp_path / "parts", micro_batch=micro_batch).train(StepProgress(STEPS))
    for whole, part in zip(steps_of(tmp_path / "whole"), steps_of(tmp_path / "parts"), strict=True):
        assert (whole["step"], whole["tokens"], whole["lr"]) == (part["step"], part["tokens"], part["lr"])
        assert part["loss"] == pytest.approx(whole["loss"], rel=1e-3)
        assert part["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-2)
