"""The permuted objective of XLNet: predict some tokens in a random order (Yang et al. 2019, arXiv:1906.08237).

A row is read in two halves, the second with what the model made of the first as memory, or as a whole. In each,
about a sixth of the tokens are targets; they come last in the order, so that each sees all that are none and the
targets before it (section 2.3).
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from groundup.model.families.xlnet import XLNet, XLNetOptions
from groundup.model.options import read_options
from groundup.objective.base import (
    IGNORED,
    Loss,
    Objective,
    Setting,
    TensorBatch,
    Windows,
    judged,
    number_documents,
    row_generators,
    tokens_of,
)

_END_OF_TEXT = "<|endoftext|>"
# A span of n targets, with probability in proportion to 1/n, is somewhere in a stretch of K n tokens.
LONGEST, STRETCH = 5, 6
_SHARES = 1 / np.arange(1, LONGEST + 1) / np.sum(1 / np.arange(1, LONGEST + 1))
_NO_TARGET = -1

Spans = list[tuple[int, int]]


@dataclass(frozen=True)
class PermutedBatch(TensorBatch):
    """G segments of S tokens a row, the second of which follows the first; N is room for targets.

    Attributes:
        targets: the tokens to predict, (B, G, N), behind them `IGNORED`.
        ids_BGS: the tokens.
        positions_BGN: where in its segment each target stands; 0 behind them.
        order_BGS: the place of each token in the order of targets, -1 where it is none.
        documents_BGS: the number of each token's document in its row.
    """

    ids_BGS: Tensor
    positions_BGN: Tensor
    order_BGS: Tensor
    documents_BGS: Tensor


def permuted(setting: Setting) -> Objective:
    """Some tokens in a random order; within documents where the setting has a border."""
    recurrent = setting.shape is None or read_options(setting.shape, XLNetOptions).recurrence
    collated = partial(
        collate,
        seed=setting.seed,
        num_segments=2 if recurrent else 1,
        end_of_text=setting.special.get(_END_OF_TEXT),
    )
    within = setting.border is not None
    return Objective(collated, partial(loss, within_documents=within, label_smoothing=setting.label_smoothing))


def collate(
    windows: Windows, first: int = 0, *, seed: int = 0, num_segments: int = 2, end_of_text: int | None = None
) -> PermutedBatch:
    """Rows (B, T + 1) of tokens, of which the last and what does not divide into segments is left out."""
    length = (windows.shape[1] - 1) // num_segments
    ids_BT = windows[:, : length * num_segments]
    room = most_targets(length)
    order = np.full((len(windows), num_segments, length), _NO_TARGET)
    positions = np.zeros((len(windows), num_segments, room), np.int64)
    is_target = np.zeros(positions.shape, bool)
    for row, rng in enumerate(row_generators(seed, first, len(windows))):
        for segment in range(num_segments):
            chosen = [position for span in target_spans(length, rng) for position in range(*span)]
            order[row, segment, chosen] = rng.permutation(len(chosen))
            positions[row, segment, : len(chosen)] = chosen
            is_target[row, segment, : len(chosen)] = True
    ids_BGS = ids_BT.reshape(order.shape)
    targets = np.where(is_target, np.take_along_axis(ids_BGS, positions, axis=2), IGNORED)
    ids = tokens_of(ids_BT)
    documents_BT = torch.zeros_like(ids) if end_of_text is None else number_documents(ids, end_of_text)
    return PermutedBatch(
        targets=tokens_of(targets),
        ids_BGS=tokens_of(ids_BGS),
        positions_BGN=tokens_of(positions),
        order_BGS=tokens_of(order),
        documents_BGS=documents_BT.unflatten(1, (num_segments, -1)),
    )


def target_spans(length: int, rng: np.random.Generator) -> Spans:
    """The spans of targets, (start, end), in a segment of so many tokens; those at its ends are cut off.

    The text is a row of stretches without beginning, of which the segment begins anywhere: every token is a target
    with the probability 1/K, wherever it stands. (XLNet's own code begins at a stretch, and predicts the first
    tokens less often.)
    """
    spans = []
    # The stretch that a given token falls into is long in proportion: K n times 1/n is the same for every n.
    size = int(rng.integers(1, LONGEST + 1))
    begin = -int(rng.integers(STRETCH * size))
    while begin < length:
        start = begin + int(rng.integers((STRETCH - 1) * size + 1))
        span = max(start, 0), min(start + size, length)
        if span[0] < span[1]:
            spans.append(span)
        begin += STRETCH * size
        size = 1 + int(rng.choice(LONGEST, p=_SHARES))
    return spans


def most_targets(length: int) -> int:
    """What no draw exceeds: 1/K of whole stretches, and a span of those that the segment cuts at both ends."""
    return min(length, length // STRETCH + 2 * LONGEST)


def loss(
    model: nn.Module, batch: PermutedBatch, *, within_documents: bool = False, label_smoothing: float = 0.0
) -> Loss:
    """The cross-entropy of the targets, in nats; no gradient goes back through the memory."""
    assert isinstance(model, XLNet)
    memory: list[Tensor] = []
    features, targets = [], []
    for segment in range(batch.ids_BGS.shape[1]):
        documents_BS = batch.documents_BGS[:, max(segment - 1, 0) : segment + 1].flatten(1)
        visible_BTS = visible(batch.order_BGS[:, segment], len(documents_BS[0]))
        if within_documents:
            own_BT = batch.documents_BGS[:, segment]
            visible_BTS = visible_BTS & (own_BT[:, :, None] == documents_BS[:, None, :])
        positions_BN = batch.positions_BGN[:, segment]
        x_BND, memory = model.streams(batch.ids_BGS[:, segment], visible_BTS, positions_BN, documents_BS, memory)
        # Each segment shortens the weights for itself, as selective recomputation of its blocks will do.
        torch.clear_autocast_cache()
        counted_BN = batch.targets[:, segment] != IGNORED
        features.append(x_BND[counted_BN])
        targets.append(batch.targets[:, segment][counted_BN])
    logits_NV = model.unembed(torch.cat(features))
    return judged(model, logits_NV, torch.cat(targets), label_smoothing)


def visible(order_BT: Tensor, num_keys: int) -> Tensor:
    """Whether the prediction of each token may look at a token, (B, T, S).

    It may where that is no target, and where it is one that comes earlier in the order; a token that is no target
    sees no target. All of what stands before the T tokens, a memory, may be looked at.
    """
    is_seen_BTT = (order_BT[:, None, :] == _NO_TARGET) | (order_BT[:, None, :] < order_BT[:, :, None])
    return nn.functional.pad(is_seen_BTT, (num_keys - order_BT.shape[1], 0), value=True)
