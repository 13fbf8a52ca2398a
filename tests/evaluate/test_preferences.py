import numpy as np
import pytest
import torch

from groundup.evaluate.preferences import pair_margins, preference_scores
from groundup.model.reward import RewardModel
from groundup.objective.bradley_terry import bradley_terry, pair_rewards
from tests.objective.rows import preference_rows, tiny


def _drawn(scale: float, count: int = 40_000) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Margins under which people really choose as Bradley and Terry say, told `scale` times too large."""
    random = np.random.default_rng(0)
    margins = random.normal(0, 1.5, count)
    is_first = random.random(count) < 1 / (1 + np.exp(-margins))
    return scale * np.where(is_first, margins, -margins)


def test_a_reward_that_knows_how_surely_has_no_calibration_error() -> None:
    assert preference_scores(_drawn(1.0)).calibration_error < 0.01


@pytest.mark.parametrize("scale", [0.2, 5.0])
def test_too_timid_and_too_bold_rewards_have_one_and_the_same_accuracy(scale: float) -> None:
    found, honest = preference_scores(_drawn(scale)), preference_scores(_drawn(1.0))
    assert found.calibration_error > 0.08
    assert found.accuracy == honest.accuracy
    for part in found.bins:
        assert (part.confidence > part.accuracy) == (scale > 1) or part.pairs < 300


def test_figures_of_a_few_pairs() -> None:
    """Confidences .88 .73 .88 .5, of which the first two are right; a draw is wrong."""
    found = preference_scores(np.array([2.0, 1.0, -2.0, 0.0]))
    assert found.accuracy == 0.5 and found.pairs == 4 and found.mean_margin == 0.25
    # Wilson's interval of 2 in 4: 0.5 +- 1.96 sqrt(.25/4 + 3.84/64) / (1 + 3.84/4).
    assert (found.accuracy_low, found.accuracy_high) == pytest.approx((0.15004, 0.84996), abs=1e-4)
    sure, fair = 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1))
    errors = [2 * abs(sure - 0.5), abs(fair - 1.0), abs(0.5 - 0.0)]
    assert found.calibration_error == pytest.approx(sum(errors) / 4)
    assert [part.pairs for part in found.bins] == [1, 1, 2]
    assert found.as_json()["bins"][2]["accuracy"] == 0.5


def test_margins_of_rows_are_those_of_all_at_once() -> None:
    rows, model = preference_rows(40), RewardModel(tiny()).train()
    objective = bradley_terry()
    found = pair_margins(model, objective, pair_rewards, rows, device="cpu", precision="fp32")
    with torch.no_grad():
        expected = pair_rewards(model, objective.collate(rows, 0))
    assert model.training and found == pytest.approx((expected[:, 0] - expected[:, 1]).numpy(), abs=1e-9)
