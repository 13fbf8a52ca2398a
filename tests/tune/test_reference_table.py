import numpy as np
import numpy.typing as npt
import pytest
import torch

from groundup.data.turn_rows import PADDING, TurnRows
from groundup.model.lora import adapters_off, add_adapters
from groundup.model.registry import build
from groundup.objective.preference import collate, preference, sequence_log_probs
from groundup.objective.statistics import Statistics
from groundup.recipe_stages import DpoRecipe
from groundup.shape import Shape
from groundup.tune.reference import reference_table
from tests.objective.rows import VOCABULARY, preference_rows, tiny

SHAPE = Shape(
    family="qwen3", num_layers=1, width=8, num_heads=2, num_kv_heads=1, head_width=4, feedforward_width=12,
    vocabulary_size=VOCABULARY, context=16,
)  # fmt: skip


def _turn_rows(rows: npt.NDArray[np.int64]) -> TurnRows:
    """The same rows (N, 2, 3, L), as a stage has them."""
    sequences = [sequence[:, sequence[2] != PADDING] for pair in rows for sequence in pair]
    return TurnRows(sequences, rows.shape[-1], 0, per_row=2, num_examples=len(rows), skipped={})


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_each_example_stands_at_its_number_whatever_the_batches(at_once: int) -> None:
    rows, model = preference_rows(7), build(SHAPE, seed=1).train()
    rows[2, :, 2] = np.where(rows[2, :, 2] >= 0, 9, -1)
    table = reference_table(model, _turn_rows(rows), device="cpu", precision="fp32", at_once=at_once)
    assert table.shape == (10, 2) and table.dtype == torch.float32 and not table.requires_grad and model.training
    with torch.no_grad():
        expected = sequence_log_probs(model, collate(rows))
    torch.testing.assert_close(table[torch.from_numpy(rows[:, 0, 2, 0])], expected)
    assert set(table[:, 0].isnan().nonzero().flatten().tolist()) == {4, 7, 8}


def test_a_policy_that_has_not_moved_implies_no_rewards() -> None:
    rows, model, statistics = preference_rows(6), tiny().float(), Statistics()
    table = reference_table(model, _turn_rows(rows), device="cpu", precision="fp32")
    objective = preference(DpoRecipe(), table, statistics)
    objective.loss(model.train(), objective.collate(rows, 0))
    figures = statistics.take()
    assert max(abs(figures[name]) for name in ("reward_chosen", "reward_rejected", "margin")) < 1e-6


def test_with_adapters_off_the_policy_is_its_own_reference() -> None:
    rows, model = _turn_rows(preference_rows(6)), build(SHAPE, seed=1)
    before = reference_table(model, rows, device="cpu", precision="fp32")
    add_adapters(model, 2, 4.0, "all", 0.0, seed=3)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.normal_(generator=torch.Generator().manual_seed(1))
    moved = reference_table(model, rows, device="cpu", precision="fp32")
    with adapters_off(model):
        off = reference_table(model, rows, device="cpu", precision="fp32")
    torch.testing.assert_close(off, before)
    assert ((moved - before).abs() > 0.01).any()
