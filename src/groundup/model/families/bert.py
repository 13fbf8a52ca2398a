"""BERT (Devlin et al. 2018, arXiv:1810.04805). Objective: masked, and optionally next sentence."""

import torch
from torch import Tensor, nn

from groundup.errors import UserError
from groundup.model.encoder import Encoder, Transform
from groundup.model.linear import Linear, linear
from groundup.model.options import Options, read_options
from groundup.model.registry import register
from groundup.shape import Shape


class BertOptions(Options):
    """Whether it also judges if a second text follows the first, and whether all tokens of a word are masked."""

    next_sentence: bool = False
    whole_word: bool = False


class TokenHead(nn.Module):
    """Logits of the token that stood at a position; the matrix is the embedding's, the bias its own."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.transform = Transform(shape)
        self.bias = nn.Parameter(torch.empty(shape.vocabulary_size))

    def forward(self, x: Tensor, embedding_VD: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        return linear(self.transform(x), embedding_VD, self.bias)

    def initial_values(self, generator: torch.Generator) -> dict[str, Tensor]:
        """No token is likelier than another."""
        del generator
        return {"bias": torch.zeros(self.bias.shape)}


@register("bert")
class Bert(Encoder):
    """The encoder with a head that says which token is hidden at a position.

    With `next_sentence` there are also the pooler and the head that says whether a text follows another; without
    it nothing would train them, and a parameter that no loss reaches can neither be resumed nor averaged.
    """

    def __init__(self, shape: Shape):
        super().__init__(shape)
        if not shape.tied:
            raise UserError("model.tied=false: bert's head shares the embedding's matrix; leave model.tied unset")
        self.head = TokenHead(shape)
        paired = read_options(shape, BertOptions).next_sentence
        self.pooler = Linear(shape.width, shape.width) if paired else None
        self.next_sentence = Linear(shape.width, 2) if paired else None

    def forward(self, ids_BT: Tensor, segments_BT: Tensor | None = None, keep_BT: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) of the token that belongs at each position; arguments as of `features`."""
        return self.token_logits(self.features(ids_BT, segments_BT, keep_BT))

    def token_logits(self, features: Tensor) -> Tensor:
        """Features of any positions (..., D) -> logits (..., V)."""
        return self.head(features, self.embedding.weight)

    def pooled(self, features_BTD: Tensor) -> Tensor:
        """One vector a row, (B, D), made of its first token; UserError for a BERT without a pooler."""
        if self.pooler is None:
            raise UserError("this bert has no pooler; train one with --set model.options.next_sentence=true")
        return torch.tanh(self.pooler(features_BTD[:, 0]))

    def next_sentence_logits(self, features_BTD: Tensor) -> Tensor:
        """Logits (B, 2): the second text follows the first, or is from elsewhere."""
        pooled_BD = self.pooled(features_BTD)
        assert self.next_sentence is not None, "it comes with the pooler"
        return self.next_sentence(pooled_BD)
