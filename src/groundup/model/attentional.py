"""Recurrent decoders that attend to what an encoder has read, and learn where each target token comes from.

A decoder does not see the padding of a source. In names of dimensions: S tokens of the source, of E numbers each,
N targets of which T tokens are read at once, D the width of the decoder, L its layers.
"""

from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from groundup.model.linear import Linear
from groundup.model.recurrent import GRU, LSTM
from groundup.shape import Shape

Attend: TypeAlias = Literal["bahdanau", "dot", "general", "concat"]


class Read(NamedTuple):
    """What was read of sources (N, S, E), the same as keys (N, S, A), and where it is no padding (None: all)."""

    values_NSE: Tensor
    keys_NSA: Tensor
    keep_NS: Tensor | None

    def repeated(self, times: int) -> "Read":
        """Each source so many times, next to each other."""
        values_NSE, keys_NSA = (part.repeat_interleave(times, 0) for part in (self.values_NSE, self.keys_NSA))
        keep_NS = None if self.keep_NS is None else self.keep_NS.repeat_interleave(times, 0)
        return Read(values_NSE, keys_NSA, keep_NS)


class Alignment(nn.Module):
    """Weights over the source, and the mean of what was read there under them.

    The score of a query q and a source token h (Luong et al. 2015, arXiv:1508.04025, equation 8):

    | dot     | q . h                                                                                    |
    | general | q . W h                                                                                  |
    | concat  | v . tanh(W q + U h), which also is that of Bahdanau et al. 2014 (arXiv:1409.0473, A.1.2) |
    """

    def __init__(self, score: Attend, query_width: int, value_width: int):
        super().__init__()
        self.is_additive = score in {"bahdanau", "concat"}
        assert score != "dot" or query_width == value_width, "only equal widths have a dot product"
        self.key = nn.Identity() if score == "dot" else Linear(value_width, query_width, bias=False)
        self.query = Linear(query_width, query_width, bias=False) if self.is_additive else nn.Identity()
        self.energy = Linear(query_width, 1, bias=False) if self.is_additive else None

    def forward(self, query_NTD: Tensor, read: Read) -> tuple[Tensor, Tensor]:
        """Queries (N, T, D) -> means (N, T, E) and weights (N, T, S)."""
        query_NTA = self.query(query_NTD)
        if self.energy is None:
            scores_NTS = query_NTA @ read.keys_NSA.mT
        else:
            scores_NTS = self.energy(torch.tanh(query_NTA[:, :, None] + read.keys_NSA[:, None])).squeeze(-1)
        if read.keep_NS is not None:
            scores_NTS = scores_NTS.masked_fill(~read.keep_NS[:, None], torch.finfo(scores_NTS.dtype).min)
        weights_NTS = scores_NTS.softmax(-1)
        return weights_NTS @ read.values_NSE, weights_NTS


class DecoderState(NamedTuple):
    """Of N targets: each layer's output (L, N, D), an LSTM's cells, what is fed to the next step, the sources."""

    hidden_LND: Tensor
    cell_LND: Tensor | None
    fed_N1D: Tensor | None
    read: Read

    def reordered(self, index_N: Tensor) -> "DecoderState":
        """Target n goes on from target `index_N[n]`, of the same source."""
        hidden_LND, cell_LND, fed_N1D, read = self
        return DecoderState(
            hidden_LND[:, index_N],
            None if cell_LND is None else cell_LND[:, index_N],
            None if fed_N1D is None else fed_N1D[index_N],
            read,
        )


class AttentionalDecoder(nn.Module):
    """What both kinds have in common: target embeddings (N, T, D) -> (N, T, D), from which the next tokens follow.

    `cell` is a GRU or LSTM of `shape.num_layers`. The first state is tanh(W h), where h is what the encoder's
    backward direction gives for the first token: it has read the whole source (Bahdanau et al. 2014, A.2.2).
    """

    reads_at_once = False

    def __init__(
        self, shape: Shape, attend: Attend, source_width: int, cell: type[GRU] | type[LSTM], input_width: int
    ):
        super().__init__()
        self.num_layers, self.width = shape.num_layers, shape.width
        self.cell = cell(input_width, shape.width, shape.num_layers)
        self.alignment = Alignment(attend, shape.width, source_width)
        self.first = Linear(source_width // 2, shape.num_layers * shape.width)

    def read(self, source_NSE: Tensor, keep_NS: Tensor | None) -> Read:
        """An encoder's output, half of it by the backward direction, for `start`."""
        return Read(source_NSE, self.alignment.key(source_NSE), keep_NS)

    def start(self, read: Read) -> DecoderState:
        """The state before the first target token."""
        _, back_NE = read.values_NSE[:, 0].chunk(2, -1)
        hidden_LND = torch.tanh(self.first(back_NE)).unflatten(-1, (self.num_layers, -1)).transpose(0, 1)
        hidden_LND = hidden_LND.to(self.cell.weight_hh_l0.dtype).contiguous()
        cell_LND = torch.zeros_like(hidden_LND) if isinstance(self.cell, LSTM) else None
        return DecoderState(hidden_LND, cell_LND, None, read)

    def forward(self, x_NTD: Tensor, state: DecoderState) -> tuple[Tensor, Tensor, DecoderState]:
        """Also the weights over the source, (N, T, S), and the state behind the last token."""
        if self.reads_at_once:
            return self.advance(x_NTD, state)
        outs, weights = [], []
        for x_N1D in x_NTD.split(1, 1):
            out_N1D, weights_N1S, state = self.advance(x_N1D, state)
            outs.append(out_N1D)
            weights.append(weights_N1S)
        return torch.cat(outs, 1), torch.cat(weights, 1), state

    def advance(self, x_NTD: Tensor, state: DecoderState) -> tuple[Tensor, Tensor, DecoderState]:
        """As `forward`, of one token, or of many where none waits for what the one before attended to."""
        raise NotImplementedError

    def recur(self, x_NTX: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """The cell on a token's input: its output (N, T, D), and a state that has it."""
        if isinstance(self.cell, GRU):
            out_NTD, hidden_LND = self.cell(x_NTX, state.hidden_LND)
            return out_NTD, state._replace(hidden_LND=hidden_LND)
        assert state.cell_LND is not None
        out_NTD, (hidden_LND, cell_LND) = self.cell(x_NTX, (state.hidden_LND, state.cell_LND))
        return out_NTD, state._replace(hidden_LND=hidden_LND, cell_LND=cell_LND)


class BahdanauDecoder(AttentionalDecoder):
    """Looks at the source before each step, with the state that it has (Bahdanau et al. 2014, arXiv:1409.0473).

    c_i = attend(s_(i-1)); s_i = cell([y_(i-1); c_i], s_(i-1)); the way back to words is from a maxout of pairs of
    U s_(i-1) + V y_(i-1) + C c_i.
    """

    def __init__(self, shape: Shape, source_width: int, cell: type[GRU] | type[LSTM]):
        super().__init__(shape, "bahdanau", source_width, cell, shape.width + source_width)
        self.maxout = Linear(2 * shape.width + source_width, 2 * shape.width)

    def advance(self, x_NTD: Tensor, state: DecoderState) -> tuple[Tensor, Tensor, DecoderState]:
        """One token."""
        before_N1D = state.hidden_LND[-1][:, None]
        context_N1E, weights_N1S = self.alignment(before_N1D, state.read)
        given_N1X = torch.cat([x_NTD, context_N1E], -1)
        _, after = self.recur(given_N1X, state)
        pairs_N1D2 = self.maxout(torch.cat([before_N1D, given_N1X], -1)).unflatten(-1, (-1, 2))
        return pairs_N1D2.amax(-1), weights_N1S, after


class LuongDecoder(AttentionalDecoder):
    """Looks at the source behind each step, and gives tanh(W [c_i; s_i]) (Luong et al. 2015, arXiv:1508.04025).

    With `input_feeding` that is part of the next step's input too (section 3.3): steps wait for each other.
    """

    def __init__(
        self,
        shape: Shape,
        attend: Attend,
        source_width: int,
        cell: type[GRU] | type[LSTM],
        *,
        input_feeding: bool,
    ):
        super().__init__(shape, attend, source_width, cell, shape.width * (1 + input_feeding))
        self.reads_at_once = not input_feeding
        self.combine = Linear(source_width + shape.width, shape.width)

    def start(self, read: Read) -> DecoderState:
        """With input feeding the first step is fed zeros."""
        state = super().start(read)
        return (
            state
            if self.reads_at_once
            else state._replace(fed_N1D=torch.zeros_like(state.hidden_LND[-1][:, None]))
        )

    def advance(self, x_NTD: Tensor, state: DecoderState) -> tuple[Tensor, Tensor, DecoderState]:
        """One token, or without input feeding any number."""
        given_NTX = x_NTD if state.fed_N1D is None else torch.cat([x_NTD, state.fed_N1D], -1)
        hidden_NTD, state = self.recur(given_NTX, state)
        context_NTE, weights_NTS = self.alignment(hidden_NTD, state.read)
        out_NTD = torch.tanh(self.combine(torch.cat([context_NTE, hidden_NTD], -1)))
        return out_NTD, weights_NTS, state if self.reads_at_once else state._replace(fed_N1D=out_NTD)
