"""The positions objective: say where the tokens of a shuffled text belong (Cui et al. 2022, arXiv:2203.06906)."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor, nn

from groundup.objective.base import (
    IGNORED,
    Loss,
    Objective,
    Setting,
    TensorBatch,
    Windows,
    judged,
    row_generators,
    tokens_of,
)
from groundup.objective.encoder_rows import EncoderRows, Positions, choose_ngrams, num_chosen

# The share of the chosen tokens that are left in place.
_STAYING = 0.1


@dataclass(frozen=True)
class ShuffledBatch(TensorBatch):
    """Ids (B, T) int64, some of them shuffled; `targets` (B, T) say where the token is that belongs there."""

    inputs_BT: Tensor


def positions(setting: Setting) -> Objective:
    """15 % of the tokens, as whole words and n-grams of them, change places; nothing is hidden."""
    return Objective(
        partial(collate, rows=EncoderRows(setting), seed=setting.seed),
        partial(loss, label_smoothing=setting.label_smoothing),
    )


def collate(windows: Windows, first: int = 0, *, rows: EncoderRows, seed: int) -> ShuffledBatch:
    """Windows (B, T + 1), of which the first T - 2 tokens are used."""
    ids_BT = rows.enclosed(windows[:, : rows.context - 2])
    inputs_BT, targets_BT = ids_BT.copy(), np.full_like(ids_BT, IGNORED)
    for row, random in enumerate(row_generators(seed, first, len(windows))):
        number = num_chosen(len(rows.candidates(ids_BT[row])), least=2)
        chosen = choose_ngrams(rows.words(ids_BT[row]), number, random)
        found = _shuffled(chosen, random)
        inputs_BT[row, found] = ids_BT[row, chosen]
        targets_BT[row, chosen] = found
    return ShuffledBatch(tokens_of(targets_BT), tokens_of(inputs_BT))


def loss(model: nn.Module, batch: ShuffledBatch, *, label_smoothing: float = 0.0) -> Loss:
    """The mean cross-entropy of the positions of the chosen tokens, in nats; chance is ln T."""
    chosen_BT = batch.targets != IGNORED
    logits_NT = model(batch.inputs_BT)[chosen_BT]
    return judged(model, logits_NT, batch.targets[chosen_BT], label_smoothing)


def _shuffled(chosen: Positions, random: np.random.Generator) -> Positions:
    """Where each chosen token goes: 10 % stay, the others move along a circle in random order.

    On the circle none keeps its place, so that exactly those that should stay do.
    """
    moves = random.random(len(chosen)) >= _STAYING
    found = chosen.copy()
    circle = random.permutation(np.flatnonzero(moves))
    found[circle] = chosen[np.roll(circle, -1)]
    return found
