"""The masked objective: say which tokens were hidden, from what stands on both sides (Devlin et al. 2018)."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from groundup.model.families.bert import Bert, BertOptions
from groundup.model.options import read_options
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
from groundup.objective.encoder_rows import EncoderRows, Positions, choose_words, num_chosen

# Of the chosen tokens: hidden, or else exchanged for a random one; the others stay.
_HIDDEN, _EXCHANGED = 0.8, 0.1
FOLLOWS, ELSEWHERE = 0, 1


@dataclass(frozen=True)
class MaskedBatch(TensorBatch):
    """Ids (B, T) int64 with some hidden; `targets` (B, T) are the ids that stood there.

    With pairs of texts, `segments_BT` says which of the two a token is of, and `origins_B` whether the second
    `FOLLOWS` the first or is from `ELSEWHERE`.
    """

    inputs_BT: Tensor
    segments_BT: Tensor | None = None
    origins_B: Tensor | None = None


def masked(setting: Setting) -> Objective:
    """15 % of the tokens, 80 % of them hidden, 10 % exchanged and 10 % left; optionally next sentences."""
    assert setting.shape is not None, "the family's options are in its shape"
    options = read_options(setting.shape, BertOptions)
    return Objective(_Masking(setting, options).collate, partial(loss, label_smoothing=setting.label_smoothing))


def loss(model: nn.Module, batch: MaskedBatch, *, label_smoothing: float = 0.0) -> Loss:
    """The mean cross-entropy of chosen tokens, in nats; of pairs, that of their origins is added."""
    assert isinstance(model, Bert), "the head is BERT's"
    features_BTD = model.features(batch.inputs_BT, batch.segments_BT)
    chosen_BT = batch.targets != IGNORED
    tokens = judged(model, model.token_logits(features_BTD[chosen_BT]), batch.targets[chosen_BT], label_smoothing)
    if batch.origins_B is None:
        return tokens
    origins = judged(model, model.next_sentence_logits(features_BTD), batch.origins_B)
    return tokens._replace(mean=tokens.mean + origins.mean)


class _Masking:
    """From windows to batches; what is drawn for a row follows from the seed and its number."""

    def __init__(self, setting: Setting, options: BertOptions):
        self.rows, self.seed, self.options = EncoderRows(setting), setting.seed, options
        self.mask = setting.special["<|mask|>"]
        self.ordinary = np.flatnonzero(~self.rows.is_special_V)

    def collate(self, windows: Windows, first: int = 0) -> MaskedBatch:
        """Windows (B, T + 1), the first T - 2 tokens of which are used; with pairs as `_paired` has them."""
        randoms = row_generators(self.seed, first, len(windows))
        segments_BT = origins_B = None
        if self.options.next_sentence:
            ids_BT, segments_BT, origins_B = self._paired(windows, randoms)
        else:
            ids_BT = self.rows.enclosed(windows[:, : self.rows.context - 2])
        inputs_BT, targets_BT = ids_BT.copy(), np.full_like(ids_BT, IGNORED)
        for row, random in enumerate(randoms):
            chosen = self._choose(ids_BT[row], random)
            targets_BT[row, chosen] = ids_BT[row, chosen]
            inputs_BT[row, chosen] = self._hidden(ids_BT[row, chosen], random)
        return MaskedBatch(tokens_of(targets_BT), tokens_of(inputs_BT), segments_BT, origins_B)

    def _paired(self, windows: Windows, randoms: list[np.random.Generator]) -> tuple[Windows, Tensor, Tensor]:
        """A window and its partner (B, 2 (T + 1)) -> ids (B, T), segments and origins.

        The second text is what follows the first in the window, or in half of the rows how the partner begins.
        """
        own, partner = np.split(windows, 2, axis=1)
        room = self.rows.context - 3
        middle = room // 2
        origins_B = np.array([ELSEWHERE if random.random() < 0.5 else FOLLOWS for random in randoms])
        follows_B1 = origins_B[:, None] == FOLLOWS
        second = np.where(follows_B1, own[:, middle:room], partner[:, : room - middle])
        ids_BT = self.rows.enclosed(own[:, :middle], second)
        segments_BT = torch.zeros(ids_BT.shape, dtype=torch.int64)
        segments_BT[:, middle + 2 :] = 1
        return ids_BT, segments_BT, tokens_of(origins_B)

    def _choose(self, ids_T: Windows, random: np.random.Generator) -> Positions:
        """The positions to be predicted; none only in a row of nothing but special tokens."""
        candidates = self.rows.candidates(ids_T)
        number = num_chosen(len(candidates))
        if self.options.whole_word:
            return choose_words(self.rows.words(ids_T), number, random)
        return random.permutation(candidates)[:number]

    def _hidden(self, ids_N: Windows, random: np.random.Generator) -> Windows:
        """What the model is shown in the place of the chosen ids."""
        fate_N = random.random(len(ids_N))
        exchanged_N = random.choice(self.ordinary, len(ids_N))
        kept_N = np.where(fate_N < _HIDDEN + _EXCHANGED, exchanged_N, ids_N)
        return np.where(fate_N < _HIDDEN, self.mask, kept_N)
