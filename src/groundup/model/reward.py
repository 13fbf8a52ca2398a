"""A reward model: a decoder that gives a sequence a number instead of words."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from groundup.model.base import Model
from groundup.model.decoder import Decoder
from groundup.model.linear import Linear
from groundup.seeds import derive


class RewardModel(Model):
    """A decoder's body and a linear map from what it makes of the last token to one number.

    Ids (B, T) int64, padded on the right, and where each sequence's last token stands (B,) -> rewards (B,). They
    are scores less `mean` over `std`: 0 and 1 until `normalise` sets them (Ziegler et al. 2019, arXiv:1909.08593).
    The head's weights have a standard deviation of 1/sqrt(D + 1) (Stiennon et al. 2020, arXiv:2009.01325), from
    the seed. `body` is taken over: what would give it words is dropped.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: Decoder, seed: int = 0):
        without_words(body)
        super().__init__(body.shape)
        self.body = body
        width = body.shape.width
        like = next(body.parameters())
        self.head = Linear(width, 1, bias=False, device=like.device, dtype=like.dtype)
        drawn = torch.randn(1, width, generator=torch.Generator().manual_seed(derive(seed, "reward head")))
        with torch.no_grad():
            self.head.weight.copy_(drawn * (width + 1) ** -0.5)
        self.register_buffer("mean", torch.empty((), device=like.device))
        self.register_buffer("std", torch.empty((), device=like.device))
        self.fill()

    def fill(self) -> None:
        """Let rewards be scores."""
        self.mean.fill_(0.0)
        self.std.fill_(1.0)

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Those of the body, for what is put around blocks."""
        return list(self.body.blocks)

    def forward(self, ids_BT: Tensor, last_B: Tensor) -> Tensor:
        """Normalised rewards (B,)."""
        return (self.scores(ids_BT, last_B) - self.mean) / self.std

    def scores(self, ids_BT: Tensor, last_B: Tensor) -> Tensor:
        """The head's numbers (B,) as they are."""
        features_BTD = self.body.features(ids_BT)
        rows_B = torch.arange(len(last_B), device=last_B.device)
        return self.head(features_BTD[rows_B, last_B]).squeeze(-1)

    def normalise(self, scores_N: Tensor) -> None:
        """Let rewards have mean 0 and standard deviation 1 where scores are these; equal ones are only shifted."""
        std, mean = torch.std_mean(scores_N.double(), correction=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 0, std, 1.0))


def without_words(body: Decoder) -> Decoder:
    """The same decoder, without an unembedding of its own: no logits are asked of it."""
    body.unembedding = None
    body.shape = body.shape.model_copy(update={"tied": True})
    return body
