"""A classifier on top of any model that reads text or images."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from groundup.data.labelled import PADDING, Frame
from groundup.model.base import ImageModel, Model, TextModel
from groundup.model.linear import Linear

Pooling: TypeAlias = Literal["mean", "last"]
Body: TypeAlias = TextModel | ImageModel


class Classifier(Model):
    """A body, what it makes of a text's tokens pooled to one vector, or of an image, dropout, and a linear layer.

    Ids (B, T), as `data.labelled.encode_texts` gives them, or pixels -> logits (B, classes). The head starts at
    zero, so that every class is equally likely at first and the body is not moved by chance.
    """

    def __init__(self, body: Body, num_classes: int, pooling: Pooling = "mean", dropout: float = 0.1):
        super().__init__(body.shape)
        self.body, self.pooling = body, pooling
        linear = Linear(body.feature_width, num_classes)
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
        self.head = nn.Sequential(nn.Dropout(dropout), linear)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Logits (B, classes)."""
        return self.head(pooled(self.body, ids_BT, self.pooling))


def pooled(body: Body, ids_BT: Tensor, pooling: Pooling = "mean") -> Tensor:
    """One vector for each text, (B, E): the mean over its tokens, or that of its last; of an image what is seen.

    What frames a text (see `TextModel.frame`) is read but is none of its tokens, and the padding (-1) behind it
    changes nothing.
    """
    if isinstance(body, ImageModel):
        return body.image_features(ids_BT)
    keep_BT = ids_BT != PADDING
    features_BTE = body.text_features(ids_BT.clamp(min=0), keep_BT)
    return _POOLINGS[pooling](features_BTE, keep_BT, body.frame)


def _mean(features_BTE: Tensor, keep_BT: Tensor, frame: Frame) -> Tensor:
    of_text_BT = keep_BT.clone()
    if frame != "alone":
        of_text_BT[:, 0] = False
    if frame == "enclosed":
        of_text_BT.scatter_(1, keep_BT.sum(1, keepdim=True) - 1, False)
    weights_BT1 = of_text_BT[..., None].to(features_BTE.dtype)
    return (features_BTE * weights_BT1).sum(1) / weights_BT1.sum(1).clamp(min=1)


def _last(features_BTE: Tensor, keep_BT: Tensor, frame: Frame) -> Tensor:
    last_B = (keep_BT.sum(1) - (2 if frame == "enclosed" else 1)).clamp(min=0)
    return features_BTE[torch.arange(len(last_B), device=last_B.device), last_B]


_POOLINGS: dict[Pooling, Callable[[Tensor, Tensor, Frame], Tensor]] = {"mean": _mean, "last": _last}
