"""The translation objective: predict each token of a target from its source and the target before it.

Sutskever et al. 2014 (arXiv:1409.3215), Bahdanau et al. 2015 (arXiv:1409.0473).
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from groundup.objective.base import IGNORED, Loss, Objective, Setting, TensorBatch, Windows, judged


@dataclass(frozen=True)
class TranslationBatch(TensorBatch):
    """Sources (B, S), true in `keep_BS` where they are not padding, and what the decoder reads (B, T).

    `targets` (B, T) are one token ahead of `inputs_BT`, and `IGNORED` where those are padding.
    """

    source_BS: Tensor
    keep_BS: Tensor
    inputs_BT: Tensor


def translation(setting: Setting) -> Objective:
    """Rows of a source, `<|sep|>`, a target and `<|endoftext|>`; -1 behind (`groundup.data.pairs`)."""
    separator, padding = setting.special["<|sep|>"], setting.special["<|pad|>"]
    return Objective(
        partial(collate, separator=separator, padding=padding),
        partial(loss, label_smoothing=setting.label_smoothing),
    )


def collate(windows: Windows, first: int = 0, *, separator: int, padding: int) -> TranslationBatch:
    """Rows (B, N) -> a batch as long as its longest source and its longest target.

    The decoder reads `<|sep|>` and the target, and is to predict the target and `<|endoftext|>`.
    """
    del first  # nothing is drawn
    num_source_B = (windows == separator).argmax(1)
    num_target_B = (windows >= 0).sum(1) - num_source_B - 1
    source_BS, keep_BS = _stretch(windows, np.zeros_like(num_source_B), num_source_B)
    inputs_BT, _ = _stretch(windows, num_source_B, num_target_B)
    targets_BT, asked_BT = _stretch(windows, num_source_B + 1, num_target_B)
    return TranslationBatch(
        targets=torch.from_numpy(np.where(asked_BT, targets_BT, IGNORED)),
        source_BS=torch.from_numpy(np.where(keep_BS, source_BS, padding)),
        keep_BS=torch.from_numpy(keep_BS),
        inputs_BT=torch.from_numpy(np.where(asked_BT, inputs_BT, padding)),
    )


def loss(model: nn.Module, batch: TranslationBatch, *, label_smoothing: float = 0.0) -> Loss:
    """The cross-entropy of the targets, in nats a token; `model` is a `Translator`."""
    logits_BTV = model(batch.source_BS, batch.keep_BS, batch.inputs_BT)
    return judged(model, logits_BTV.flatten(0, 1), batch.targets.flatten(), label_smoothing)


def _stretch(windows: Windows, starts_B: Windows, lengths_B: Windows) -> tuple[Windows, np.ndarray]:
    """Of each row the stretch of this length from this start on, and where there is one: both (B, longest)."""
    columns = np.arange(lengths_B.max())
    positions_BN = np.minimum(starts_B[:, None] + columns, windows.shape[1] - 1)
    return np.take_along_axis(windows, positions_BN, axis=1), columns < lengths_B[:, None]
