"""XLNet (Yang et al. 2019, arXiv:1906.08237). Objective: permuted."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.errors import UserError
from groundup.model.base import TextModel
from groundup.model.block import dropout
from groundup.model.feedforward import FeedForward
from groundup.model.linear import Linear
from groundup.model.norm import LayerNorm
from groundup.model.options import Options, read_options
from groundup.model.registry import register
from groundup.model.relative import RelativeAttention, Seen, View, relative_sinusoids
from groundup.shape import Shape


class XLNetOptions(Options):
    """`recurrence`: training reads a row in two halves, the second with what was made of the first as memory."""

    recurrence: bool = True


class TwoStreamBlock(nn.Module):
    """norm(x + attention(x)), then norm(x + feedforward(x)), of two streams with the same weights.

    The content stream knows the token at its own position. The query stream, which predicts it, knows the position
    alone; both look at the content stream.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        self.attention = RelativeAttention(shape)
        self.attention_norm = LayerNorm(shape.width, shape.norm_epsilon)
        self.feedforward = FeedForward(shape, F.gelu)
        self.feedforward_norm = LayerNorm(shape.width, shape.norm_epsilon)
        self.dropout = dropout(shape)

    def forward(
        self,
        content_BTD: Tensor,
        query_BND: Tensor | None,
        memory_BMD: Tensor | None,
        sinusoids_RD: Tensor,
        content_view: View | None,
        query_view: View | None,
    ) -> tuple[Tensor, Tensor | None]:
        """The content stream (B, T, D), as it came if it has no view; and the query stream (B, N, D) or None."""
        tokens_BSD = content_BTD if memory_BMD is None else torch.cat([memory_BMD, content_BTD], dim=1)
        seen = self.attention.see(tokens_BSD, sinusoids_RD)
        if query_BND is not None and query_view is not None:
            query_BND = self._stream(query_BND, seen, query_view)
        if content_view is not None:
            content_BTD = self._stream(content_BTD, seen, content_view)
        return content_BTD, query_BND

    def _stream(self, x_BTD: Tensor, seen: Seen, view: View) -> Tensor:
        x_BTD = self.attention_norm(x_BTD + self.dropout(self.attention(x_BTD, seen, view)))
        return self.feedforward_norm(x_BTD + self.dropout(self.feedforward(x_BTD)))


@register("xlnet")
class XLNet(TextModel):
    """Predicts tokens in any order from those that come before them in it.

    S below is the tokens that can be looked at: M of a memory, and the T that are read.
    """

    def __init__(self, shape: Shape):
        super().__init__(shape)
        read_options(shape, XLNetOptions)
        if shape.num_kv_heads != shape.num_heads or shape.num_heads * shape.head_width != shape.width:
            raise UserError(
                f"xlnet needs num_kv_heads = num_heads and num_heads * head_width = width, but has "
                f"{shape.num_kv_heads}, {shape.num_heads}, {shape.head_width} and {shape.width}; "
                "leave model.num_kv_heads and model.head_width unset"
            )
        if shape.width % 2:
            raise UserError(f"model.width={shape.width} is odd; XLNet's positions are pairs of sine and cosine")
        self.embedding = nn.Embedding(shape.vocabulary_size, shape.width)
        self.query = nn.Parameter(torch.empty(shape.width))
        self.blocks = nn.ModuleList(TwoStreamBlock(shape) for _ in range(shape.num_layers))
        self.dropout = dropout(shape)
        self.unembedding = None if shape.tied else Linear(shape.width, shape.vocabulary_size, bias=False)
        self.output_bias = nn.Parameter(torch.empty(shape.vocabulary_size))

    def initial_values(self, generator: torch.Generator) -> dict[str, Tensor]:
        """The vector that all of the query stream starts from is as small as an embedding; no bias."""
        query_D = torch.empty(self.query.shape).normal_(0.0, 0.02, generator=generator)
        return {"query": query_D, "output_bias": torch.zeros(self.output_bias.shape)}

    def forward(
        self,
        ids_BT: Tensor,
        visible_BTS: Tensor | None = None,
        positions_BN: Tensor | None = None,
        segments_BS: Tensor | None = None,
        memory: Sequence[Tensor] = (),
    ) -> Tensor:
        """Logits (B, N, V) of the tokens at `positions_BN`, or (B, T, V) without; arguments as for `streams`."""
        return self.unembed(self.streams(ids_BT, visible_BTS, positions_BN, segments_BS, memory)[0])

    def streams(
        self,
        ids_BT: Tensor,
        visible_BTS: Tensor | None = None,
        positions_BN: Tensor | None = None,
        segments_BS: Tensor | None = None,
        memory: Sequence[Tensor] = (),
    ) -> tuple[Tensor, list[Tensor]]:
        """The query stream (B, N, D), or without positions the content stream (B, T, D); and the next memory.

        Args:
            ids_BT: the tokens.
            visible_BTS: whether the prediction at a position may look at a token (bool); None: at all. The content
                stream, besides, looks at each position's own token.
            positions_BN: which tokens to predict.
            segments_BS: the number of each token's segment; None: all is one.
            memory: what this gave for the text before, (B, M, D) for each block; gradients end there.
        """
        length = ids_BT.shape[1]
        num_keys = length + (memory[0].shape[1] if memory else 0)
        if visible_BTS is None:
            visible_BTS = ids_BT.new_ones(1, length, num_keys, dtype=torch.bool)
        view = View.of_all(visible_BTS, segments_BS)
        is_own_BTS = view.offset_BTS == num_keys  # no distance
        content_view = view._replace(visible_BTS=visible_BTS | is_own_BTS)
        content = self.dropout(self.embedding(ids_BT))
        query, query_view = None, None
        if positions_BN is not None:
            query = self.dropout(self.query.expand(*positions_BN.shape, -1))
            query_view = view.at(positions_BN)
        sinusoids_RD = relative_sinusoids(num_keys, length, self.shape.width, ids_BT.device).type_as(content)
        after = []
        for index, block in enumerate(self.blocks):
            after.append(content.detach())
            before = memory[index] if memory else None
            # Nobody reads the last content stream where there is a query stream.
            is_read = query is None or index + 1 < len(self.blocks)
            view_of_content = content_view if is_read else None
            content, query = block(content, query, before, sinusoids_RD, view_of_content, query_view)
        return self.dropout(content if query is None else query), after

    def text_features(self, ids_BT: Tensor, keep_BT: Tensor | None = None) -> Tensor:
        """The content stream (B, T, D), in which each token sees all that is kept."""
        visible_BTS = None if keep_BT is None else keep_BT[:, None, :].expand(-1, ids_BT.shape[1], -1)
        return self.streams(ids_BT, visible_BTS)[0]

    def unembed(self, x_BND: Tensor) -> Tensor:
        """Logits (..., V) from a stream's end."""
        weight_VD = self.embedding.weight if self.unembedding is None else self.unembedding.weight
        return F.linear(x_BND, weight_VD, self.output_bias)
