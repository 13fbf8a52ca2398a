"""PERT (Cui, Yang and Liu 2022, arXiv:2203.06906). Objective: positions."""

import math

import torch
from torch import Tensor, nn

from groundup.model.encoder import Encoder, Transform
from groundup.model.options import Options, read_options
from groundup.model.registry import register
from groundup.shape import Shape


class PositionHead(nn.Module):
    """Where in the row the token is that belongs at a position: a softmax over the row, not the vocabulary.

    A transformed feature, compared with the features of all positions, plus a bias a position:
    softmax(norm(GELU(W h_i)) H^T / sqrt(D) + b). The authors' training code is not public and this follows the
    paper's outline; the scale is ours, since products of normalised features would begin at the size sqrt(D).
    """

    def __init__(self, shape: Shape):
        super().__init__()
        self.transform = Transform(shape)
        self.bias = nn.Parameter(torch.empty(shape.context))

    def forward(self, features_BTD: Tensor) -> Tensor:
        """(B, T, D) -> logits (B, T, T)."""
        asked_BTD = self.transform(features_BTD) / math.sqrt(features_BTD.shape[-1])
        return asked_BTD @ features_BTD.mT + self.bias[: features_BTD.shape[1]]

    def initial_values(self, generator: torch.Generator) -> dict[str, Tensor]:
        """No position is likelier than another."""
        del generator
        return {"bias": torch.zeros(self.bias.shape)}


@register("pert")
class Pert(Encoder):
    """The encoder with a head that finds the tokens of a shuffled text."""

    def __init__(self, shape: Shape):
        super().__init__(shape)
        read_options(shape, Options)
        self.head = PositionHead(shape)

    def forward(self, ids_BT: Tensor, segments_BT: Tensor | None = None, keep_BT: Tensor | None = None) -> Tensor:
        """Logits (B, T, T): for each position, where the token is that belongs there; -inf at padding."""
        logits_BTT = self.head(self.features(ids_BT, segments_BT, keep_BT))
        return logits_BTT if keep_BT is None else logits_BTT.masked_fill(~keep_BT[:, None, :], float("-inf"))
