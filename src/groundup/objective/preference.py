"""Preferences learnt directly from pairs of answers, without a reward model: DPO and what followed it.

How much likelier than the reference a policy holds an answer is, times beta, the reward that it implies (Rafailov
et al. 2023, arXiv:2305.18290). What the reference says of each sequence is a table, computed once, so that no
reference model stands in memory.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.errors import UserError, nearest
from groundup.objective.base import IGNORED, Batch, Loss, Objective, TensorBatch, Windows, tokens_of
from groundup.objective.log_probs import token_log_probs
from groundup.objective.statistics import Statistics
from groundup.recipe_stages import DpoRecipe


@dataclass(frozen=True)
class PreferenceBatch(TensorBatch):
    """Two sequences an example: chosen and rejected, or for KTO an answer and one that belongs elsewhere.

    Attributes:
        targets: (B, 2, T) int64, `IGNORED` where a token is no answer's.
        inputs_B2T: int64, padded on the right.
        are_desirable_B: of KTO, whether the first answer was liked.
        reference_B2: the answers' log-probabilities under the reference; None without one.
    """

    inputs_B2T: Tensor
    are_desirable_B: Tensor
    reference_B2: Tensor | None = None

    @property
    def num_targets(self) -> int:
        """How many examples there are: each counts the same, however long."""
        return len(self.targets)

    def side(self, number: int) -> "PreferenceBatch":
        """The first sequences alone, or the second: with 1 in the place of 2."""
        one = slice(number, number + 1)
        of_reference = None if self.reference_B2 is None else self.reference_B2[:, one]
        return replace(
            self, targets=self.targets[:, one], inputs_B2T=self.inputs_B2T[:, one], reference_B2=of_reference
        )


def preference(
    settings: DpoRecipe, reference_N2: Tensor | None = None, statistics: Statistics | None = None
) -> Objective:
    """The objective that `settings.loss` names, of rows (B, 2, 3, L) as of `data.turn_rows`.

    `reference_N2` holds the log-probabilities of the two answers of example n under the reference, as
    `tune.reference` computes them; SimPO needs none. While training, `statistics` get `reward_chosen`,
    `reward_rejected`, `margin` and `accuracy`, with KTO `reward_desirable`, `reward_undesirable`, `kl` (in nats an
    answer) and `accuracy`. UserError for an unknown loss, and for a setting that it does not read.
    """
    _check(settings)
    assert settings.loss == "simpo" or reference_N2 is not None, "only SimPO has no reference"
    loss = kto_loss if settings.loss == "kto" else pair_loss
    return Objective(
        partial(collate, reference_N2=reference_N2),
        partial(loss, settings=settings, statistics=Statistics() if statistics is None else statistics),
    )


def beta_of(settings: DpoRecipe) -> float:
    """How dear it is to leave the reference; of SimPO, which compares means over tokens, how much they count."""
    return settings.beta or (2.0 if settings.loss == "simpo" else 0.1)


def _check(settings: DpoRecipe) -> None:
    if settings.loss not in _READS:
        raise UserError(f"dpo.loss='{settings.loss}' is unknown{nearest(settings.loss, _READS)}")
    for name in sorted(set().union(*_READS.values()) - _READS[settings.loss]):
        value = getattr(settings, name)
        if value != DpoRecipe.model_fields[name].default:
            readers = " or ".join(loss for loss, names in _READS.items() if name in names)
            raise UserError(
                f"dpo.{name}={value} means nothing to dpo.loss='{settings.loss}'; leave it out, or choose "
                f"{readers}"
            )


def collate(windows: Windows, first: int = 0, *, reference_N2: Tensor | None = None) -> PreferenceBatch:
    """Rows (B, 2, 3, L) -> inputs and targets (B, 2, T), T as the longest of the sequences needs it."""
    del first  # nothing is drawn
    ids_B2L, counts_B2L, numbers_B2L = tokens_of(windows).unbind(2)
    length = int((numbers_B2L >= 0).sum(-1).max())
    are_learnt_B2T = counts_B2L[..., 1:length] > 0
    return PreferenceBatch(
        targets=ids_B2L[..., 1:length].where(are_learnt_B2T, IGNORED),
        inputs_B2T=ids_B2L[..., : length - 1].contiguous(),
        are_desirable_B=counts_B2L[:, 0].amax(-1) == 1,
        reference_B2=None if reference_N2 is None else reference_N2[numbers_B2L[:, 0, 0]],
    )


def sequence_log_probs(model: nn.Module, batch: PreferenceBatch) -> Tensor:
    """The log-probability of each sequence's answer, (B, 2), in nats, summed over its tokens."""
    sequences = Batch(batch.inputs_B2T.flatten(0, 1), batch.targets.flatten(0, 1))
    return token_log_probs(model, sequences).sum(-1).unflatten(0, batch.targets.shape[:2])


def implicit_rewards(model: nn.Module, batch: PreferenceBatch, settings: DpoRecipe) -> Tensor:
    """The rewards (B, 2) that a policy implies: beta times its log-probabilities above the reference's.

    For IPO and SimPO they are means over an answer's tokens, as their losses compare them; for SimPO of the
    log-probabilities themselves.
    """
    scores_B2 = sequence_log_probs(model, batch)
    if settings.loss != "simpo":
        assert batch.reference_B2 is not None, "only SimPO has no reference"
        scores_B2 = scores_B2 - batch.reference_B2
    if settings.loss in {"ipo", "simpo"}:
        scores_B2 = scores_B2 / (batch.targets != IGNORED).sum(-1).clamp(min=1)
    return beta_of(settings) * scores_B2


def pair_loss(model: nn.Module, batch: PreferenceBatch, *, settings: DpoRecipe, statistics: Statistics) -> Loss:
    """The mean over pairs; right is a pair whose chosen answer has the greater implicit reward."""
    chosen_B, rejected_B = implicit_rewards(model, batch, settings).unbind(1)
    margins_B = chosen_B - rejected_B
    if model.training:
        add_pairs(statistics, chosen_B, rejected_B)
    mean = _PAIR_LOSSES[settings.loss](margins_B, settings).mean()
    return Loss(mean, batch.num_targets, None if model.training else int((margins_B > 0).sum()))


def add_pairs(statistics: Statistics, chosen_B: Tensor, rejected_B: Tensor) -> None:
    """Note the rewards of pairs (B,): `reward_chosen`, `reward_rejected`, `margin` and `accuracy`."""
    statistics.add("reward_chosen", chosen_B)
    statistics.add("reward_rejected", rejected_B)
    statistics.add("margin", chosen_B - rejected_B)
    statistics.add("accuracy", chosen_B > rejected_B)


def kto_loss(model: nn.Module, batch: PreferenceBatch, *, settings: DpoRecipe, statistics: Statistics) -> Loss:
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024, arXiv:2402.01306), the mean over answers.

    A reward is valued against beta times the KL divergence from the reference, which is estimated, without a
    gradient, as the mean over the mismatched answers, and at least 0: a step has to have its whole batch at once.
    Right is a desirable answer above that and an undesirable one below.
    """
    rewards_B = implicit_rewards(model, batch.side(0), settings)[:, 0]
    with torch.no_grad():
        baseline = implicit_rewards(model, batch.side(1), settings).mean().clamp(min=0)
    are_desirable_B = batch.are_desirable_B
    gains_B = torch.where(are_desirable_B, rewards_B - baseline, baseline - rewards_B)
    if model.training:
        statistics.add("reward_desirable", rewards_B, are_desirable_B)
        statistics.add("reward_undesirable", rewards_B, ~are_desirable_B)
        statistics.add("kl", baseline / beta_of(settings))
        statistics.add("accuracy", gains_B > 0)
    weights_2 = rewards_B.new_tensor([settings.undesirable_weight, settings.desirable_weight])
    mean = (weights_2[are_desirable_B.long()] * (1 - gains_B.sigmoid())).mean()
    return Loss(mean, batch.num_targets, None if model.training else int((gains_B > 0).sum()))


def _sigmoid(margins_B: Tensor, settings: DpoRecipe) -> Tensor:
    """Rafailov et al. 2023; where a share of the pairs is taken for mistaken, its conservative form."""
    smoothing = settings.label_smoothing
    return -(1 - smoothing) * F.logsigmoid(margins_B) - smoothing * F.logsigmoid(-margins_B)


def _ipo(margins_B: Tensor, settings: DpoRecipe) -> Tensor:
    """Identity preference optimisation (Azar et al. 2023, arXiv:2310.12036), equation 17."""
    beta = beta_of(settings)
    return (margins_B / beta - 1 / (2 * beta)) ** 2


def _simpo(margins_B: Tensor, settings: DpoRecipe) -> Tensor:
    """Meng et al. 2024 (arXiv:2405.14734): as `_sigmoid`, but chosen answers are to be ahead by gamma."""
    return _sigmoid(margins_B - settings.simpo_margin, settings)


_PAIR_LOSSES: dict[str, Callable[[Tensor, DpoRecipe], Tensor]] = {
    "sigmoid": _sigmoid,
    "ipo": _ipo,
    "simpo": _simpo,
}
# Every loss, and which settings it alone or with others reads.
_READS: dict[str, set[str]] = {
    "sigmoid": {"label_smoothing"},
    "ipo": set(),
    "simpo": {"label_smoothing", "simpo_margin"},
    "kto": {"desirable_weight", "undesirable_weight"},
}
