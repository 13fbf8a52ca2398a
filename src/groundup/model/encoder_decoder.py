"""The Transformer of two halves: an encoder reads a source, a decoder writes a target and looks at both."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from groundup.model.block import Block, BlockPart, NormMaker, PostNormBlock, dropout
from groundup.model.cache import LayerCache
from groundup.model.dot_product import causal_mask
from groundup.model.linear import Linear, linear
from groundup.model.position import Sinusoidal
from groundup.model.position_bias import RelativeBias
from groundup.model.translator import Translator
from groundup.shape import Shape


class AttentionMaker(Protocol):
    """Makes an `Attention` of a family, causal or not."""

    def __call__(self, shape: Shape, *, causal: bool) -> nn.Module:
        """The module."""
        ...


class Encoded(NamedTuple):
    """The encoder's features (B, S, D), and where a source has tokens, (B, 1, 1, S) bool; None: everywhere."""

    memory_BSD: Tensor
    mask_B11S: Tensor | None


@dataclass
class Decoding:
    """N targets begun: of each layer the keys and values of their tokens, and of their sources (`memory`)."""

    encoded: Encoded
    layers: list[LayerCache]
    memory: list[LayerCache]


class Embedding(nn.Embedding):
    """An embedding whose rows start with this standard deviation."""

    def __init__(self, vocabulary_size: int, width: int, std: float):
        super().__init__(vocabulary_size, width)
        self.std = std

    def initial_values(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Normal ones."""
        return {"weight": torch.empty(self.weight.shape).normal_(0.0, self.std, generator=generator)}


class CrossBlock(nn.Module):
    """Attention to the target so far, attention to the source, and feed-forward, on one residual stream.

    Norms stand as in `Block`, or as in `PostNormBlock` with `post_norm`.
    """

    def __init__(
        self, shape: Shape, attention: AttentionMaker, feedforward: BlockPart, norm: NormMaker, *, post_norm: bool
    ):
        super().__init__()
        self.post_norm = post_norm
        self.attention_norm = norm(shape.width, shape.norm_epsilon)
        self.attention = attention(shape, causal=True)
        self.cross_attention_norm = norm(shape.width, shape.norm_epsilon)
        self.cross_attention = attention(shape, causal=False)
        self.feedforward_norm = norm(shape.width, shape.norm_epsilon)
        self.feedforward = feedforward(shape)
        self.dropout = dropout(shape)

    def forward(
        self,
        x_BTD: Tensor,
        memory_BSD: Tensor,
        mask_TS: Tensor | None = None,
        memory_mask_B11S: Tensor | None = None,
        cache: LayerCache | None = None,
        memory_cache: LayerCache | None = None,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D); with caches, tokens and memory follow what those hold."""
        x_BTD = self._add(x_BTD, self.attention_norm, lambda h: self.attention(h, None, cache, mask_TS))
        x_BTD = self._add(
            x_BTD,
            self.cross_attention_norm,
            lambda h: self.cross_attention(h, None, memory_cache, memory_mask_B11S, memory_BSD=memory_BSD),
        )
        return self._add(x_BTD, self.feedforward_norm, self.feedforward)

    def _add(self, x_BTD: Tensor, norm: nn.Module, part: Callable[[Tensor], Tensor]) -> Tensor:
        if self.post_norm:
            return norm(x_BTD + self.dropout(part(x_BTD)))
        return x_BTD + self.dropout(part(norm(x_BTD)))


class EncoderDecoder(Translator):
    """Source ids (B, S) and target ids (B, T) -> logits (B, T, V).

    A family gives its attention, feed-forward and norm, and either sinusoidal positions or relative ones, of
    which `make_bias` makes one for each half, that all of its layers share. Sources, targets and, with
    `shape.tied`, the unembedding share one matrix, whose rows start with `embedding_std`; they are multiplied by
    `embedding_scale`, and what becomes logits by `logit_scale`. Norms stand before each part, and once more at
    the end of each half; or only behind them (`post_norm`).
    """

    def __init__(
        self,
        shape: Shape,
        *,
        decoder_layers: int,
        attention: AttentionMaker,
        feedforward: BlockPart,
        norm: NormMaker,
        post_norm: bool = False,
        make_bias: Callable[..., RelativeBias] | None = None,
        embedding_std: float,
        embedding_scale: float = 1.0,
        logit_scale: float = 1.0,
    ):
        super().__init__(shape)
        self.embedding_scale, self.logit_scale = embedding_scale, logit_scale
        self.embedding = Embedding(shape.vocabulary_size, shape.width, embedding_std)
        self.positions = None if make_bias else Sinusoidal(shape.width, shape.context)
        self.encoder_bias = make_bias(both_ways=True) if make_bias else None
        self.decoder_bias = make_bias(both_ways=False) if make_bias else None
        self.dropout = dropout(shape)
        block, looking = PostNormBlock if post_norm else Block, partial(attention, causal=False)
        self.encoder = nn.ModuleList(block(shape, looking, feedforward, norm) for _ in range(shape.num_layers))
        self.decoder = nn.ModuleList(
            CrossBlock(shape, attention, feedforward, norm, post_norm=post_norm) for _ in range(decoder_layers)
        )
        self.encoder_norm = nn.Identity() if post_norm else norm(shape.width, shape.norm_epsilon)
        self.decoder_norm = nn.Identity() if post_norm else norm(shape.width, shape.norm_epsilon)
        self.unembedding = None if shape.tied else Linear(shape.width, shape.vocabulary_size, bias=False)

    @property
    def blocks(self) -> list[nn.Module]:
        """Those of both halves."""
        return [*self.encoder, *self.decoder]

    def encode(self, source_BS: Tensor, keep_BS: Tensor | None = None) -> Encoded:
        """The encoder's features, to which the decoder attends."""
        x_BSD, length = self._embed(source_BS), source_BS.shape[1]
        keep_B11S = None if keep_BS is None else keep_BS[:, None, None, :]
        mask = keep_B11S if self.encoder_bias is None else _hidden(self.encoder_bias(length, length), keep_B11S)
        for block in self.encoder:
            x_BSD = block(x_BSD, None, None, mask)
        return Encoded(self.encoder_norm(x_BSD), keep_B11S)

    def text_features(self, ids_BT: Tensor, keep_BT: Tensor | None = None) -> Tensor:
        """The encoder's features (B, T, D)."""
        return self.encode(ids_BT, keep_BT).memory_BSD

    def logits(self, source_BS: Tensor, keep_BS: Tensor | None, target_BT: Tensor) -> Tensor:
        """Logits (B, T, V) of what follows each target token."""
        return self._decode(target_BT, self.encode(source_BS, keep_BS))

    def start(self, memory: Encoded, beams: int = 1) -> Decoding:
        """Empty caches for `shape.context` tokens of each target, and for the memory."""
        encoded = Encoded(
            memory.memory_BSD.repeat_interleave(beams, 0),
            None if memory.mask_B11S is None else memory.mask_B11S.repeat_interleave(beams, 0),
        )
        count, length, _ = encoded.memory_BSD.shape
        return Decoding(encoded, self._caches(count, self.shape.context), self._caches(count, length))

    def step(self, state: Decoding, ids_N: Tensor) -> tuple[Tensor, Decoding]:
        """Logits (N, V) of the next token."""
        return self._decode(ids_N[:, None], state.encoded, state)[:, -1], state

    def reorder(self, state: Decoding, index_N: Tensor) -> Decoding:
        """Only the targets' own keys and values move."""
        for cache in state.layers:
            cache.reorder(index_N)
        return state

    def _decode(self, target_BT: Tensor, encoded: Encoded, state: Decoding | None = None) -> Tensor:
        start, num_new = state.layers[0].length if state else 0, target_BT.shape[1]
        memory_BSD = encoded.memory_BSD
        if start:
            # The caches hold the memory's keys and values: nothing of it is new.
            memory_BSD = memory_BSD[:, :0]
        x_BTD, num_keys, mask = self._embed(target_BT, start), start + num_new, None
        if self.decoder_bias is not None:
            looks_TS = causal_mask(num_new, num_keys, target_BT.device)
            mask = _hidden(self.decoder_bias(num_new, num_keys), looks_TS)
        for index, block in enumerate(self.decoder):
            caches = (state.layers[index], state.memory[index]) if state else (None, None)
            x_BTD = block(x_BTD, memory_BSD, mask, encoded.mask_B11S, *caches)
        weight_VD = self.embedding.weight if self.unembedding is None else self.unembedding.weight
        return linear(self.dropout(self.decoder_norm(x_BTD)) * self.logit_scale, weight_VD)

    def _embed(self, ids_BT: Tensor, start: int = 0) -> Tensor:
        x_BTD = self.embedding(ids_BT) * self.embedding_scale
        if self.positions is not None:
            x_BTD = self.positions(x_BTD, start)
        return self.dropout(x_BTD)

    def _caches(self, count: int, capacity: int) -> list[LayerCache]:
        shape, like = self.shape, self.embedding.weight
        return [
            LayerCache(count, shape.num_kv_heads, capacity, shape.head_width, like)
            for _ in range(len(self.decoder))
        ]


def _hidden(bias_1HTS: Tensor, looks: Tensor | None) -> Tensor:
    """The bias with -inf where a query may not look; `looks` can be broadcast to it."""
    return bias_1HTS if looks is None else bias_1HTS.masked_fill(~looks, float("-inf"))
