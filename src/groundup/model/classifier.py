"""A classifier of texts on top of any model that reads text."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from groundup.data.labelled import PADDING
from groundup.model.base import Model, TextModel
from groundup.model.linear import Linear

Pooling: TypeAlias = Literal["mean", "last"]


class Classifier(Model):
    """A body, what it makes of a text's tokens pooled to one vector, dropout, and a linear layer.

    Ids (B, T), as `data.labelled.encode_texts` gives them -> logits (B, classes). The head starts at zero, so that
    every class is equally likely at first and the body is not moved by chance.
    """

    def __init__(self, body: TextModel, num_classes: int, pooling: Pooling = "mean", dropout: float = 0.1):
        super().__init__(body.shape)
        self.body, self.pooling = body, pooling
        linear = Linear(body.feature_width, num_classes)
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
        self.head = nn.Sequential(nn.Dropout(dropout), linear)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Logits (B, classes)."""
        return self.head(pooled(self.body, ids_BT, self.pooling))


def pooled(body: TextModel, ids_BT: Tensor, pooling: Pooling = "mean") -> Tensor:
    """One vector for each text, (B, E): the mean over its tokens, or that of its last.

    Rows begin with the border between documents, which the body reads but which is none of the text's tokens, and
    end with padding (-1), which changes nothing.
    """
    keep_BT = ids_BT != PADDING
    features_BTE = body.text_features(ids_BT.clamp(min=0), keep_BT)
    return _POOLINGS[pooling](features_BTE, keep_BT)


def _mean(features_BTE: Tensor, keep_BT: Tensor) -> Tensor:
    of_text_BT1 = keep_BT[:, 1:, None].to(features_BTE.dtype)
    return (features_BTE[:, 1:] * of_text_BT1).sum(1) / of_text_BT1.sum(1).clamp(min=1)


def _last(features_BTE: Tensor, keep_BT: Tensor) -> Tensor:
    last_B = keep_BT.sum(1) - 1
    return features_BTE[torch.arange(len(last_B), device=last_B.device), last_B]


_POOLINGS: dict[Pooling, Callable[[Tensor, Tensor], Tensor]] = {"mean": _mean, "last": _last}
