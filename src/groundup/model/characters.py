"""What a token is from how it is spelt: a convolution over its bytes, and highway layers.

Kim et al. 2016 (arXiv:1508.06615), as in ELMo (Peters et al. 2018, arXiv:1802.05365).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.model.linear import Linear

# Beside the 256 bytes.
BEGIN, END, PADDING = 256, 257, 258
_NUM_CHARACTERS = 259
# Highways start by letting nearly everything pass, as in ELMo.
_FIRST_GATE_BIAS = -2.0


def spell(token_bytes: Sequence[bytes], length: int) -> Tensor:
    """The characters of each token between BEGIN and END, then PADDING: int64 (V, length).

    Of a longer token the first `length` - 2 bytes are kept.
    """
    spelling_VC = torch.full((len(token_bytes), length), PADDING)
    for row, token in zip(spelling_VC, token_bytes, strict=True):
        characters = [BEGIN, *token[: length - 2], END]
        row[: len(characters)] = torch.tensor(characters)
    return spelling_VC


class Highway(nn.Module):
    """gate * relu(W x) + (1 - gate) * x (Srivastava et al. 2015, arXiv:1505.00387): (..., E) -> (..., E)."""

    def __init__(self, width: int):
        super().__init__()
        self.transform = Linear(width, width)
        self.gate = Linear(width, width, bias=False)
        self.gate_bias = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        """Some of what comes in passes as it is."""
        gate = torch.sigmoid(self.gate(x) + self.gate_bias)
        return gate * F.relu(self.transform(x)) + (1 - gate) * x

    def initial_values(self, generator: torch.Generator) -> dict[str, Tensor]:
        """The gate's bias."""
        del generator  # nothing is drawn
        return {"gate_bias": torch.full(self.gate_bias.shape, _FIRST_GATE_BIAS)}


class CharacterCNN(nn.Module):
    """Characters (N, C) int64 -> tokens (N, D): filters, each at its best place, then highways and a projection.

    Args:
        filters: (characters that a filter spans, filters of that kind), at most C characters.
        character_width: of a character's embedding; 16 in ELMo.
        width: D.
    """

    def __init__(self, filters: Sequence[tuple[int, int]], character_width: int, num_highways: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(_NUM_CHARACTERS, character_width)
        self.spans = [span for span, _ in filters]
        self.filters = nn.ModuleList(Linear(span * character_width, count) for span, count in filters)
        num_filters = sum(count for _, count in filters)
        self.highways = nn.Sequential(*(Highway(num_filters) for _ in range(num_highways)))
        self.projection = Linear(num_filters, width)

    def forward(self, characters_NC: Tensor) -> Tensor:
        """A convolution is written as the linear map of all its windows, (N, C - span + 1, E * span)."""
        x_NCE = self.embedding(characters_NC)
        found = [
            filters(x_NCE.unfold(1, span, 1).flatten(2)).amax(1)
            for span, filters in zip(self.spans, self.filters, strict=True)
        ]
        return self.projection(self.highways(F.relu(torch.cat(found, -1))))
