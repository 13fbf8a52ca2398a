"""Recurrent layers: LSTM and GRU, which read a sequence token by token, from its beginning or from its end."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from groundup.model.linear import linear

# Of an LSTM its output and its cells (L, B, H) after a token; a GRU has only the former.
LSTMState: TypeAlias = tuple[Tensor, Tensor]


class LSTM(nn.LSTM):
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with forget gates: Gers et al. 2000).

    (B, T, I) and a state -> (B, T, H) and the state behind the last token; no state: zeros. PyTorch's fused loop,
    in float32 under autocast too: a state that is rounded at every token forgets.
    """

    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def __init__(self, input_width: int, width: int, num_layers: int = 1):
        super().__init__(input_width, width, num_layers, batch_first=True)

    def forward(self, x_BTI: Tensor, state: LSTMState | None = None) -> tuple[Tensor, LSTMState]:  # type: ignore[override]
        """The layers on a sequence that follows what the state has read."""
        with torch.autocast(x_BTI.device.type, enabled=False):
            return super().forward(x_BTI.to(self.weight_ih_l0.dtype), state)

    def initial_values(self, generator: torch.Generator) -> dict[str, Tensor]:
        """As `_drawn`, and forget gates that start open (Jozefowicz et al. 2015)."""
        values = _drawn(self, generator)
        for name, value in values.items():
            if name.startswith("bias_ih"):
                value[self.hidden_size : 2 * self.hidden_size] = 1.0
        return values


class ProjectedLSTM(LSTM):
    """A layer whose output is a linear map of its cells' (Sak et al. 2014, arXiv:1402.1128), with bounds (ELMo).

    (B, T, I) -> (B, T, P). Parameters are those of `torch.nn.LSTM(proj_size=P)`. After each token no cell and no
    output is left beyond +-`clip`; their gradients there are zero.
    """

    weight_hr_l0: Tensor

    def __init__(self, input_width: int, width: int, projection: int, clip: float):
        nn.LSTM.__init__(self, input_width, width, batch_first=True, proj_size=projection)
        self.clip = clip

    def forward(self, x_BTI: Tensor, state: LSTMState | None = None) -> tuple[Tensor, LSTMState]:  # type: ignore[override]
        """The layer on a sequence that follows what the state has read."""
        with torch.autocast(x_BTI.device.type, enabled=False):
            return self._loop(x_BTI.to(self.weight_ih_l0.dtype), state)

    def _loop(self, x_BTI: Tensor, state: LSTMState | None) -> tuple[Tensor, LSTMState]:
        out_BP, cell_BH = (part[0] for part in state) if state else self._zeros(x_BTI)
        into_gates_PG, projection_HP = self.weight_hh_l0.T, self.weight_hr_l0.T
        given_BTG = linear(x_BTI, self.weight_ih_l0, self.bias_ih_l0 + self.bias_hh_l0)
        outs = []
        for given_BG in given_BTG.unbind(1):
            gates_BG = torch.addmm(given_BG, out_BP, into_gates_PG)
            in_BH, forget_BH, new_BH, out_BH = gates_BG.chunk(4, 1)
            cell_BH = forget_BH.sigmoid() * cell_BH + in_BH.sigmoid() * new_BH.tanh()
            cell_BH = cell_BH.clamp(-self.clip, self.clip)
            out_BP = ((out_BH.sigmoid() * cell_BH.tanh()) @ projection_HP).clamp(-self.clip, self.clip)
            outs.append(out_BP)
        return torch.stack(outs, 1), (out_BP[None], cell_BH[None])

    def _zeros(self, x_BTI: Tensor) -> tuple[Tensor, Tensor]:
        batch = len(x_BTI)
        return x_BTI.new_zeros(batch, self.proj_size), x_BTI.new_zeros(batch, self.hidden_size)


class GRU(nn.GRU):
    """Gated recurrent units (Cho et al. 2014, arXiv:1406.1078): (B, T, I) and a state -> (B, T, H) and a state.

    In PyTorch's form, in which the reset gate acts behind the recurrent matrix. In float32 as `LSTM`.
    """

    weight_ih_l0: Tensor
    weight_hh_l0: Tensor

    def __init__(self, input_width: int, width: int, num_layers: int = 1):
        super().__init__(input_width, width, num_layers, batch_first=True)

    def forward(self, x_BTI: Tensor, state_LBH: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """The layers on a sequence that follows what the state has read."""
        with torch.autocast(x_BTI.device.type, enabled=False):
            return super().forward(x_BTI.to(self.weight_ih_l0.dtype), state_LBH)

    def initial_values(self, generator: torch.Generator) -> dict[str, Tensor]:
        """As `_drawn`."""
        return _drawn(self, generator)


class Bidirectional(nn.Module):
    """Two layers of one kind, the second of which reads each row from its end (Schuster and Paliwal 1997).

    (B, T, I) -> (B, T, 2 H). `keep_BT` is false at the padding behind a row, which changes nothing before it.
    """

    def __init__(self, make: Callable[[], LSTM | GRU]):
        super().__init__()
        self.ahead, self.back = make(), make()

    def forward(self, x_BTI: Tensor, keep_BT: Tensor | None = None) -> Tensor:
        """What each direction makes of a token and of those that it has read before."""
        ahead_BTH, back_BTH = self.ahead(x_BTI)[0], self.back(reversed_rows(x_BTI, keep_BT))[0]
        return torch.cat([ahead_BTH, reversed_rows(back_BTH, keep_BT)], -1)


def reversed_rows(x_BTE: Tensor, keep_BT: Tensor | None = None) -> Tensor:
    """Each row from its last kept token to its first; padding stays behind it. It is its own inverse."""
    if keep_BT is None:
        return x_BTE.flip(1)
    places_T, lengths_B1 = torch.arange(x_BTE.shape[1], device=x_BTE.device), keep_BT.sum(1, keepdim=True)
    order_BT = torch.where(places_T < lengths_B1, lengths_B1 - 1 - places_T, places_T)
    return x_BTE.gather(1, order_BT[..., None].expand_as(x_BTE))


def _drawn(layers: nn.RNNBase, generator: torch.Generator) -> dict[str, Tensor]:
    """Matrices with a standard deviation of 1/sqrt(fan in), biases of zero."""
    return {
        name: torch.empty(weight.shape).normal_(0.0, weight.shape[1] ** -0.5, generator=generator)
        if weight.dim() == 2
        else torch.zeros(weight.shape)
        for name, weight in layers.named_parameters()
    }
