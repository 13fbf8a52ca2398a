"""The neural probabilistic language model (Bengio et al. 2003, JMLR 3). Objective: causal."""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from groundup.model.base import TextModel
from groundup.model.block import dropout
from groundup.model.linear import Linear
from groundup.model.options import Options, read_options
from groundup.model.registry import register
from groundup.shape import Shape


class NNLMOptions(Options):
    """`context_words` is n - 1, the tokens that the next one is predicted from; `direct` connects them to it."""

    context_words: int = Field(default=4, ge=1)
    direct: bool = True


@register("nnlm")
class NNLM(TextModel):
    """y = b + W x + U tanh(d + H x), where x are the embeddings of the last n - 1 tokens, one behind the other.

    Embeddings have `shape.width` numbers and the hidden layer has `shape.feedforward_width`.
    A learned vector stands for each token before the first.
    """

    def __init__(self, shape: Shape):
        super().__init__(shape)
        options = read_options(shape, NNLMOptions)
        self.context_words = options.context_words
        seen_width = options.context_words * shape.width
        self.embedding = nn.Embedding(shape.vocabulary_size + 1, shape.width)
        self.hidden = Linear(seen_width, shape.feedforward_width)
        self.unembedding = Linear(shape.feedforward_width, shape.vocabulary_size)
        self.direct = Linear(seen_width, shape.vocabulary_size, bias=False) if options.direct else None
        self.dropout = dropout(shape)

    @property
    def feature_width(self) -> int:
        """The units of the hidden layer."""
        return self.shape.feedforward_width

    def forward(self, ids_BT: Tensor, *, documents_BT: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) of the token after each position."""
        assert documents_BT is None, "this model does not keep documents apart"
        seen_BTX = self._seen(ids_BT)
        logits_BTV = self.unembedding(self._features(seen_BTX))
        return logits_BTV if self.direct is None else logits_BTV + self.direct(seen_BTX)

    def text_features(self, ids_BT: Tensor, keep_BT: Tensor | None = None) -> Tensor:
        """The hidden layer (B, T, F): no token sees the padding behind it."""
        del keep_BT
        return self._features(self._seen(ids_BT))

    def _features(self, seen_BTX: Tensor) -> Tensor:
        return self.dropout(torch.tanh(self.hidden(seen_BTX)))

    def _seen(self, ids_BT: Tensor) -> Tensor:
        """The embeddings of each token and the n - 2 before it, the earliest first, (B, T, (n - 1) D)."""
        length, before = ids_BT.shape[1], self.context_words - 1
        x_BTD = self.embedding(F.pad(ids_BT, (before, 0), value=self.shape.vocabulary_size))
        return torch.cat([x_BTD[:, first : first + length] for first in range(self.context_words)], -1)
