"""The supervised objective of conversations: predict the assistant's words, each within its conversation.

Ouyang et al. 2022, arXiv:2203.02155. A row is three planes of tokens: ids, whether the token is to be learnt, and
the number of the example that it belongs to (see `data.turn_rows`).
"""

import torch
from torch import nn

from groundup.objective.base import IGNORED, Batch, Loss, Objective, Setting, Windows, tokens_of
from groundup.objective.causal import loss as causal_loss


def supervised(setting: Setting) -> Objective:
    """Cross-entropy of the tokens that count; prompts, padding and other conversations contribute nothing."""
    del setting
    return Objective(collate, loss)


def collate(windows: Windows, first: int = 0) -> Batch:
    """Rows (B, 3, T + 1) -> ids and targets (B, T); where several examples share a row, none sees another."""
    del first  # nothing is drawn
    ids_BT, counts_BT, numbers_BT = tokens_of(windows).unbind(1)
    targets_BT = torch.where(counts_BT[:, 1:] > 0, ids_BT[:, 1:], IGNORED)
    # Behind one example there is nothing but padding, which no earlier token sees anyway.
    documents_BT = numbers_BT[:, :-1].contiguous() if _is_packed(numbers_BT) else None
    return Batch(ids_BT[:, :-1].contiguous(), targets_BT, documents_BT, is_partial=True)


def loss(model: nn.Module, batch: Batch) -> Loss:
    """As `causal.loss`; also of a batch that a pipeline's last stage has put together again."""
    return causal_loss(model, batch._replace(is_partial=True))


def _is_packed(numbers_BT: torch.Tensor) -> bool:
    return bool(((numbers_BT != numbers_BT[:, :1]) & (numbers_BT >= 0)).any())
