"""Attention that goes by how far apart two tokens are, in the form of Transformer-XL and XLNet.

A query looks at S tokens: M of a memory, and behind them the T of the text that is read.
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from groundup.model.dot_product import DotProduct
from groundup.model.linear import Linear
from groundup.shape import Shape


class View(NamedTuple):
    """What queries, (B or 1, T, ...), have to do with the S tokens that they look at.

    Attributes:
        visible_BTS: whether a query may look there (bool).
        offset_BTS: the row of `relative_sinusoids` for the distance between the two.
        differs_BTS: whether that token is of another segment (bool); None where all is one segment.
    """

    visible_BTS: Tensor
    offset_BTS: Tensor
    differs_BTS: Tensor | None

    @classmethod
    def of_all(cls, visible_BTS: Tensor, segments_BS: Tensor | None) -> Self:
        """Of a query at each of the last T of S tokens; `segments_BS` numbers the segment of each token."""
        length, num_keys = visible_BTS.shape[-2:]
        device = visible_BTS.device
        ahead_TS = torch.arange(num_keys, device=device) - torch.arange(length, device=device)[:, None]
        differs = None if segments_BS is None else segments_BS[:, -length:, None] != segments_BS[:, None, :]
        return cls(visible_BTS, (length + ahead_TS)[None], differs)

    def at(self, positions_BN: Tensor) -> Self:
        """Of the queries at some positions of T alone, (B, N)."""

        def taken(whole_BTS: Tensor) -> Tensor:
            each_BTS = whole_BTS.expand(len(positions_BN), -1, -1)
            return each_BTS.gather(1, positions_BN[..., None].expand(-1, -1, whole_BTS.shape[-1]))

        differs = None if self.differs_BTS is None else taken(self.differs_BTS)
        return type(self)(taken(self.visible_BTS), taken(self.offset_BTS), differs)


class Seen(NamedTuple):
    """Keys and values of the S tokens, (B, H, S, d), and keys of the R = S + T distances, (H, R, d)."""

    key_BHSd: Tensor
    value_BHSd: Tensor
    position_HRd: Tensor


class RelativeAttention(nn.Module):
    """Multi-head attention over relative positions and segments, which sees both ways.

    The score of query i for token j is ((q_i + u) k_j + (q_i + v) W r_(i-j) + (q_i + w) s_ij) / sqrt(d): r are
    sinusoids of the distance (Dai et al. 2019, arXiv:1901.02860), s says whether the two are of one segment, and
    u, v and w are each layer's own (Yang et al. 2019, arXiv:1906.08237, section 2.5).
    """

    def __init__(self, shape: Shape):
        super().__init__()
        self.head_width = shape.head_width
        heads_width = shape.num_heads * shape.head_width
        self.query = Linear(shape.width, heads_width, bias=False)
        self.key = Linear(shape.width, heads_width, bias=False)
        self.value = Linear(shape.width, heads_width, bias=False)
        self.position = Linear(shape.width, heads_width, bias=False)
        self.output = Linear(heads_width, shape.width, bias=False)
        self.content_bias = nn.Parameter(torch.empty(heads_width))
        self.position_bias = nn.Parameter(torch.empty(heads_width))
        self.segment_bias = nn.Parameter(torch.empty(heads_width))
        self.segments = nn.Embedding(2, heads_width)
        self.dot_product = DotProduct(causal=False)

    def initial_values(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Biases start at zero."""
        del generator
        names = ("content_bias", "position_bias", "segment_bias")
        return {name: torch.zeros(self.content_bias.shape) for name in names}

    def see(self, tokens_BSD: Tensor, sinusoids_RD: Tensor) -> Seen:
        """What queries of any stream look at."""
        key_BHSd, value_BHSd = self._heads(self.key(tokens_BSD)), self._heads(self.value(tokens_BSD))
        return Seen(key_BHSd, value_BHSd, self._heads(self.position(sinusoids_RD)))

    def forward(self, x_BTD: Tensor, seen: Seen, view: View) -> Tensor:
        """(B, T, D) -> (B, T, D); a query that may look nowhere gathers nothing."""
        query_BTE = self.query(x_BTD)
        scores_BHTS = self._relative_scores(query_BTE, seen.position_HRd, view) * self.head_width**-0.5
        visible_B1TS = view.visible_BTS.unsqueeze(1)
        # Half of the least number, since the scores are still to be added to it.
        hidden = torch.finfo(scores_BHTS.dtype).min / 2
        mixed_BHTd = self.dot_product(
            self._heads(query_BTE + self.content_bias.type_as(query_BTE)),
            seen.key_BHSd,
            seen.value_BHSd,
            scores_BHTS.masked_fill(~visible_B1TS, hidden),
        )
        mixed_BHTd = mixed_BHTd * visible_B1TS.any(-1, keepdim=True)
        return self.output(mixed_BHTd.transpose(1, 2).flatten(2))

    def _relative_scores(self, query_BTE: Tensor, position_HRd: Tensor, view: View) -> Tensor:
        """The part of the scores that does not depend on what stands there, (B, H, T, S), not scaled."""
        by_row_BHTR = self._heads(query_BTE + self.position_bias.type_as(query_BTE)) @ position_HRd.mT
        offset_BHTS = view.offset_BTS.unsqueeze(1).expand(*by_row_BHTR.shape[:3], -1)
        scores_BHTS = by_row_BHTR.gather(-1, offset_BHTS)
        if view.differs_BTS is None:
            return scores_BHTS
        biased_BHTd = self._heads(query_BTE + self.segment_bias.type_as(query_BTE))
        same, other = (biased_BHTd @ self._heads(self.segments.weight).mT).split(1, dim=-1)
        return scores_BHTS + torch.where(view.differs_BTS.unsqueeze(1), other, same)

    def _heads(self, x_TE: Tensor) -> Tensor:
        return x_TE.unflatten(-1, (-1, self.head_width)).transpose(-3, -2)


def relative_sinusoids(num_keys: int, length: int, width: int, device: torch.device) -> Tensor:
    """Sines, then cosines of the distances from S = `num_keys` behind a query to T - 1 before it, (S + T, D).

    Row r is of the distance S - r; wavelengths are those of Vaswani et al. 2017 (arXiv:1706.03762).
    """
    distance_R = torch.arange(num_keys, -length, -1, dtype=torch.float32, device=device)
    channel_C = torch.arange(0, width, 2, dtype=torch.float32, device=device)
    angle_RC = distance_R[:, None] / 10_000 ** (channel_C / width)
    return torch.cat([angle_RC.sin(), angle_RC.cos()], dim=-1)
