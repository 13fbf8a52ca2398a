from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from groundup.errors import UserError
from groundup.model.decoder import Decoder
from groundup.objective import IGNORED
from groundup.objective.preference import beta_of, collate, preference, sequence_log_probs
from groundup.objective.statistics import Statistics
from groundup.recipe_stages import DpoRecipe

from . import trl_losses
from .rows import preference_rows, tiny


def _reference(rows: npt.NDArray[np.int64], model: Decoder, seed: int = 5) -> Tensor:
    """A table by number: what another model says of them."""
    with torch.no_grad():
        found = sequence_log_probs(tiny(seed), collate(rows))
    table = torch.empty_like(found)
    table[torch.from_numpy(rows[:, 0, 2, 0])] = found
    return table


def _loss(
    model: Decoder, rows: npt.NDArray[np.int64], reference: Tensor | None, **settings: Any
) -> tuple[Tensor, dict[str, float]]:
    statistics = Statistics()
    objective = preference(DpoRecipe(**settings), reference, statistics)
    return objective.loss(model.train(), objective.collate(rows, 0)).mean, statistics.take()


def _gradients(loss: Tensor, model: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def _in_order(table: Tensor, rows: npt.NDArray[np.int64]) -> Tensor:
    return table[torch.from_numpy(rows[:, 0, 2, 0])]


def test_a_batch_is_as_long_as_its_longest_sequence_and_counts_answers_only() -> None:
    rows = preference_rows(4)
    lengths = (rows[:, :, 2] >= 0).sum(-1)
    batch = collate(rows)
    assert batch.inputs_B2T.shape == (4, 2, lengths.max() - 1) and batch.num_targets == 4
    learnt = int((rows[:, :, 1] > 0).sum())
    assert int((batch.targets != IGNORED).sum()) == learnt


def test_log_probs_of_sequences_are_sums_over_their_answers() -> None:
    rows, model = preference_rows(5), tiny()
    found = sequence_log_probs(model, collate(rows))
    for place in range(5):
        for side in range(2):
            length = int((rows[place, side, 2] >= 0).sum())
            ids, counts = (torch.from_numpy(rows[place, side, plane, :length]) for plane in (0, 1))
            log_probs = model(ids[None, :-1])[0].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
            torch.testing.assert_close(found[place, side], log_probs[counts[1:] > 0].sum())


@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
def test_loss_gradients_and_figures_are_trls(loss: str) -> None:
    rows, model = preference_rows(6), tiny()
    reference = _reference(rows, model)
    expected, figures = trl_losses.dpo(model, rows, _in_order(reference, rows), loss, beta=0.3)
    found, statistics = _loss(model, rows, reference, loss=loss, beta=0.3)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    for mine, theirs in zip(_gradients(found, model), _gradients(expected, model), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)
    if loss == "sigmoid":  # TRL's figures of IPO are sums over tokens, its loss and ours are means
        assert statistics == pytest.approx(
            {
                "reward_chosen": figures["rewards/chosen"],
                "reward_rejected": figures["rewards/rejected"],
                "margin": figures["rewards/margins"],
                "accuracy": figures["rewards/accuracies"],
            },
            abs=1e-6,
        )


def test_smoothed_labels_are_trls_conservative_loss() -> None:
    rows, model = preference_rows(6), tiny()
    reference = _reference(rows, model)
    above = sequence_log_probs(model, collate(rows)) - _in_order(reference, rows)
    expected = trl_losses.cpo(above[:, 0], above[:, 1], "sigmoid", 0.3, 0.1, 0.0).mean()
    found, _ = _loss(model, rows, reference, loss="sigmoid", beta=0.3, label_smoothing=0.1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_simpo_is_trls_and_has_no_reference() -> None:
    rows, model = preference_rows(6), tiny()
    batch = collate(rows)
    means = sequence_log_probs(model, batch) / (batch.targets != IGNORED).sum(-1)
    expected = trl_losses.cpo(means[:, 0], means[:, 1], "simpo", 2.0, 0.0, 0.7).mean()
    found, _ = _loss(model, rows, None, loss="simpo", beta=2.0, simpo_margin=0.7)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    for mine, theirs in zip(_gradients(found, model), _gradients(expected, model), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("shift", [-30.0, 3.0])
def test_kto_is_trls_whether_the_divergence_is_clamped_or_not(shift: float) -> None:
    rows, model = preference_rows(6, counts=(1, 2, 2)), tiny()
    reference = _reference(rows, model)
    reference[:, 1] -= shift
    expected, figures = trl_losses.kto(model, rows, _in_order(reference, rows), 0.3, (1.3, 0.7))
    found, statistics = _loss(
        model, rows, reference, loss="kto", beta=0.3, desirable_weight=1.3, undesirable_weight=0.7
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    for mine, theirs in zip(_gradients(found, model), _gradients(expected, model), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)
    assert statistics["kl"] == pytest.approx(figures["kl"], abs=1e-9)
    assert (statistics["kl"] == 0.0) == (shift < 0)
    assert statistics["reward_desirable"] == pytest.approx(figures["rewards/chosen"], abs=1e-6)
    assert statistics["reward_undesirable"] == pytest.approx(figures["rewards/rejected"], abs=1e-6)


def test_a_policy_that_is_the_reference_has_the_loss_of_a_coin() -> None:
    rows, model = preference_rows(6), tiny()
    with torch.no_grad():
        said = sequence_log_probs(model, collate(rows))
    table = torch.empty_like(said)
    table[torch.from_numpy(rows[:, 0, 2, 0])] = said
    assert _loss(model, rows, table, loss="sigmoid")[0].item() == pytest.approx(np.log(2), abs=1e-12)
    assert _loss(model, rows, table, loss="kto")[0].item() == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("loss", ["sigmoid", "ipo", "simpo", "kto"])
def test_in_evaluation_right_answers_are_counted_and_statistics_left_alone(loss: str) -> None:
    rows, model = preference_rows(8, counts=(1, 2)), tiny().eval()
    statistics = Statistics()
    reference = None if loss == "simpo" else _reference(rows, model)
    objective = preference(DpoRecipe(loss=loss), reference, statistics)
    found = objective.loss(model, objective.collate(rows, 0))
    assert found.num_targets == 8 and found.num_correct is not None
    assert statistics.take() == {}
    objective.loss(model.train(), objective.collate(rows, 0))
    assert found.num_correct / 8 == statistics.take()["accuracy"]


@pytest.mark.parametrize("loss", ["sigmoid", "ipo", "simpo", "kto"])
def test_prompts_and_padding_change_no_gradient(loss: str) -> None:
    """The gradient of what stands at places that do not count is exactly zero."""
    rows, model = preference_rows(4, counts=(1, 2)), tiny().train()
    reference = None if loss == "simpo" else _reference(rows, model)
    objective = preference(DpoRecipe(loss=loss), reference)
    batch = objective.collate(rows, 0)
    kept: list[Tensor] = []
    features = model.features

    def noted(*given: Any, **options: Any) -> Tensor:
        kept.append(features(*given, **options))
        kept[-1].retain_grad() if kept[-1].requires_grad else None
        return kept[-1]

    model.features = noted  # type: ignore[method-assign]
    objective.loss(model, batch).mean.backward()
    counted = (batch.side(0).targets if loss == "kto" else batch.targets).flatten(0, 1) != IGNORED
    gradient = kept[0].grad
    assert gradient is not None
    assert not gradient[~counted].any() and gradient[counted].any(-1).all()


def test_unknown_losses_are_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"dpo.loss='sigmod' is unknown; did you mean 'sigmoid'\?"):
        preference(DpoRecipe(loss="sigmod"))


@pytest.mark.parametrize(
    ("loss", "field", "readers"),
    [
        ("ipo", "label_smoothing", "sigmoid or simpo"),
        ("kto", "label_smoothing", "sigmoid or simpo"),
        ("sigmoid", "simpo_margin", "simpo"),
        ("simpo", "desirable_weight", "kto"),
        ("ipo", "undesirable_weight", "kto"),
    ],
)
def test_settings_that_a_loss_does_not_read_are_refused(loss: str, field: str, readers: str) -> None:
    expected = f"dpo.{field}=0.25 means nothing to dpo.loss='{loss}'; leave it out, or choose {readers}$"
    with pytest.raises(UserError, match=expected):
        preference(DpoRecipe.model_validate({"loss": loss, field: 0.25}), torch.zeros(1, 2))


def test_beta_is_the_losss_own_where_none_is_given() -> None:
    """SimPO compares means over tokens, which count more and want another margin: half as much as beta."""
    assert [beta_of(DpoRecipe(loss=loss)) for loss in ("sigmoid", "ipo", "kto", "simpo")] == [0.1, 0.1, 0.1, 2.0]
    assert DpoRecipe().simpo_margin / beta_of(DpoRecipe(loss="simpo")) == 0.5
    rows, model = preference_rows(6), tiny()
    for loss in ("sigmoid", "simpo"):
        reference = None if loss == "simpo" else _reference(rows, model)
        beta = beta_of(DpoRecipe(loss=loss))
        found, figures = _loss(model, rows, reference, loss=loss)
        given, expected = _loss(model, rows, reference, loss=loss, beta=beta)
        assert found.item() == given.item() and figures == expected


def test_the_chosen_answer_gets_likelier_than_the_rejected_one() -> None:
    rows, model = preference_rows(8), tiny()
    with torch.no_grad():
        said = sequence_log_probs(model, collate(rows))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    table = torch.empty_like(said)
    table[torch.from_numpy(rows[:, 0, 2, 0])] = said
    for _ in range(15):
        optimizer.zero_grad()
        loss, figures = _loss(model, rows, table, loss="sigmoid", beta=0.5)
        loss.backward()
        optimizer.step()
    assert figures["accuracy"] == 1.0 and loss.item() < 0.3
