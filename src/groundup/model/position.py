"""Where a token stands: rotary positions, which turn queries and keys, and sinusoidal ones, which are added."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Rotary(nn.Module):
    """Rotary position embedding (Su et al. 2021, arXiv:2104.09864), in the half-split layout of Llama.

    Channel i and channel i + head_width / 2 form a pair that is turned by position * theta^(-2i / head_width).
    The tables are kept in float32 and are not part of the state dict: they follow from the shape.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, head_width: int, context: int, theta: float):
        super().__init__()
        self.head_width, self.theta = head_width, theta
        self.stand_at(range(context))

    def stand_at(self, positions: Sequence[int]) -> None:
        """Let token i that the model is given stand at `positions[i]` of the sequence; by default at i."""
        self._positions = positions
        for name in ("cosine", "sine"):
            self.register_buffer(name, torch.empty(len(positions), self.head_width), persistent=False)
        self.fill()

    def fill(self) -> None:
        """Compute the tables; called again when a model built on the meta device gets its memory."""
        pairs = torch.arange(0, self.head_width, 2, dtype=torch.float32, device=self.cosine.device)
        frequencies = self.theta ** (-pairs / self.head_width)
        positions = torch.tensor(self._positions, dtype=torch.float32, device=self.cosine.device)
        angles = torch.outer(positions, frequencies).repeat(1, 2)
        self.cosine.copy_(angles.cos())
        # The sign of the first half is folded into the table, which saves a negation in every layer.
        half = self.head_width // 2
        self.sine.copy_(torch.cat([-angles[:, :half].sin(), angles[:, half:].sin()], dim=-1))

    def forward(self, x_BHTd: Tensor, start: int = 0) -> Tensor:
        """Turn the heads of tokens `start`, `start + 1`, ... by their angles; the type of `x` is kept."""
        end = start + x_BHTd.shape[-2]
        cosine, sine = (table[start:end].type_as(x_BHTd) for table in (self.cosine, self.sine))
        return x_BHTd * cosine + x_BHTd.roll(self.head_width // 2, dims=-1) * sine


class Sinusoidal(nn.Module):
    """Sinusoidal position encoding, added to embeddings (Vaswani et al. 2017, arXiv:1706.03762, section 3.5).

    Channels 2i and 2i + 1 are the sine and the cosine of position / 10000^(2i / width). The table is kept in
    float32 and is not part of the state dict: it follows from the shape.
    """

    table: Tensor

    def __init__(self, width: int, context: int):
        super().__init__()
        self.register_buffer("table", torch.empty(context, width), persistent=False)

    def fill(self) -> None:
        """Compute the table."""
        context, width = self.table.shape
        pairs = torch.arange(0, width, 2, dtype=torch.float32, device=self.table.device)
        positions = torch.arange(context, dtype=torch.float32, device=self.table.device)
        angles = torch.outer(positions, 10_000.0 ** (-pairs / width))
        self.table[:, 0::2] = angles.sin()
        self.table[:, 1::2] = angles.cos()[:, : width // 2]

    def forward(self, x_BTD: Tensor, start: int = 0) -> Tensor:
        """Add the positions `start`, `start + 1`, ... to embeddings; the type of `x` is kept."""
        return x_BTD + self.table[start : start + x_BTD.shape[1]].type_as(x_BTD)
