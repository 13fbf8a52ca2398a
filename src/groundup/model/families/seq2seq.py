"""Recurrent translation with attention (Bahdanau et al. 2014, Luong et al. 2015). Objective: translation."""

from functools import partial

from torch import Tensor, nn

from groundup.errors import UserError
from groundup.model.attentional import (
    Attend,
    AttentionalDecoder,
    BahdanauDecoder,
    DecoderState,
    LuongDecoder,
    Read,
)
from groundup.model.block import dropout
from groundup.model.linear import Linear, linear
from groundup.model.options import Options, read_options
from groundup.model.recurrent import GRU, LSTM, Bidirectional
from groundup.model.registry import register
from groundup.model.translator import Translator
from groundup.shape import Shape


class Seq2SeqOptions(Options):
    """`attention` is Bahdanau's, or one of Luong's scores, of which only the latter know `input_feeding`."""

    attention: Attend = "bahdanau"
    input_feeding: bool = False


class RecurrentEncoder(nn.Module):
    """Layers that read from both sides, each what the one before gave: (B, S, I) -> (B, S, `shape.width`)."""

    def __init__(self, shape: Shape, input_width: int, kind: type[GRU] | type[LSTM]):
        super().__init__()
        if shape.width % 2:
            raise UserError(
                f"model.width={shape.width} is odd; half of it reads from either side, so make it even"
            )
        widths = [input_width] + [shape.width] * (shape.num_layers - 1)
        self.layers = nn.ModuleList(Bidirectional(partial(kind, width, shape.width // 2)) for width in widths)
        self.dropout = dropout(shape)

    def forward(self, x_BSI: Tensor, keep_BS: Tensor | None) -> Tensor:
        """`keep_BS` is false at padding."""
        for layer in self.layers:
            x_BSI = layer(self.dropout(x_BSI), keep_BS)
        return x_BSI


def attentional_decoder(
    shape: Shape, attention: Attend, input_feeding: bool, kind: type[GRU] | type[LSTM]
) -> AttentionalDecoder:
    """The decoder for an encoder of the same width."""
    if attention != "bahdanau":
        return LuongDecoder(shape, attention, shape.width, kind, input_feeding=input_feeding)
    if input_feeding:
        raise UserError(
            "model.options.input_feeding=true: bahdanau's attention feeds each step anyway; leave it out, "
            "or choose model.options.attention=general"
        )
    return BahdanauDecoder(shape, shape.width, kind)


class RecurrentTranslator(Translator):
    """An encoder that reads from both sides, and a decoder that attends to it.

    Source and target have one embedding, and with `shape.tied` it is also the way back to words.
    """

    def __init__(self, shape: Shape, encoder: RecurrentEncoder, decoder: AttentionalDecoder):
        super().__init__(shape)
        self.embedding = nn.Embedding(shape.vocabulary_size, shape.width)
        self.encoder, self.decoder = encoder, decoder
        self.unembedding = None if shape.tied else Linear(shape.width, shape.vocabulary_size, bias=False)
        self.dropout = dropout(shape)

    def encode(self, source_BS: Tensor, keep_BS: Tensor | None = None) -> Read:
        """What the encoder makes of the sources (B, S) int64."""
        return self.decoder.read(self.encoder(self.embed_source(source_BS), keep_BS), keep_BS)

    def embed_source(self, source_BS: Tensor) -> Tensor:
        """What the encoder is given for tokens, (B, S, I)."""
        return self.embedding(source_BS)

    def text_features(self, ids_BT: Tensor, keep_BT: Tensor | None = None) -> Tensor:
        """The encoder's output (B, T, D)."""
        return self.encoder(self.embed_source(ids_BT), keep_BT)

    def logits(self, source_BS: Tensor, keep_BS: Tensor | None, target_BT: Tensor) -> Tensor:
        """Logits (B, T, V) of what follows each target token when the true ones are given."""
        return self._unembed(self._decode(source_BS, keep_BS, target_BT)[0])

    def alignments(self, source_BS: Tensor, keep_BS: Tensor | None, target_BT: Tensor) -> Tensor:
        """Where the decoder looks to predict what follows each target token: weights (B, T, S), of sum 1."""
        return self._decode(source_BS, keep_BS, target_BT)[1]

    def start(self, memory: Read, beams: int = 1) -> DecoderState:
        """The state before the first target token, of N = B * beams targets, those of a source in sequence."""
        return self.decoder.start(memory.repeated(beams))

    def step(self, state: DecoderState, ids_N: Tensor) -> tuple[Tensor, DecoderState]:
        """Read one more token of each target: logits (N, V) of the next, and the new state."""
        out_N1D, _, state = self.decoder(self.embedding(ids_N)[:, None], state)
        return self._unembed(out_N1D)[:, 0], state

    def reorder(self, state: DecoderState, index_N: Tensor) -> DecoderState:
        """The state in which target n goes on from what target `index_N[n]` was, of the same source."""
        return state.reordered(index_N)

    def _decode(self, source_BS: Tensor, keep_BS: Tensor | None, target_BT: Tensor) -> tuple[Tensor, Tensor]:
        state = self.start(self.encode(source_BS, keep_BS))
        out_BTD, weights_BTS, _ = self.decoder(self.dropout(self.embedding(target_BT)), state)
        return self.dropout(out_BTD), weights_BTS

    def _unembed(self, x_NTD: Tensor) -> Tensor:
        return linear(x_NTD, self.embedding.weight if self.unembedding is None else self.unembedding.weight)


@register("seq2seq")
def seq2seq(shape: Shape) -> RecurrentTranslator:
    """GRUs, and one embedding of source and target."""
    options = read_options(shape, Seq2SeqOptions)
    decoder = attentional_decoder(shape, options.attention, options.input_feeding, GRU)
    return RecurrentTranslator(shape, RecurrentEncoder(shape, shape.width, GRU), decoder)
