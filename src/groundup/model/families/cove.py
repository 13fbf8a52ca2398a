"""CoVe (McCann et al. 2017, arXiv:1708.00107): a translator's encoder as features. Objective: translation."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from groundup.errors import UserError
from groundup.model.attentional import LuongDecoder
from groundup.model.families.seq2seq import RecurrentEncoder, RecurrentTranslator
from groundup.model.options import Options, read_options
from groundup.model.recurrent import LSTM
from groundup.model.registry import register
from groundup.shape import Shape


class CoVeOptions(Options):
    """`vectors` is the file or folder of the word vectors that the encoder reads, `vector_width` their width.

    Without them each token has a random vector, which tells it from the others and nothing else.
    """

    vectors: str = ""
    vector_width: int = Field(default=100, ge=1)


class WordTable(nn.Module):
    """Vectors of tokens that are never trained: ids (B, T) -> (B, T, G)."""

    vectors_VG: Tensor

    def __init__(self, vocabulary_size: int, width: int):
        super().__init__()
        self.register_buffer("vectors_VG", torch.empty(vocabulary_size, width))

    def initial_values(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Random vectors, until others are read."""
        return {"vectors_VG": torch.empty(self.vectors_VG.shape).normal_(generator=generator)}

    def read(self, words: Mapping[str, NDArray[np.float32]], token_texts: Sequence[str]) -> None:
        """A token that is a word, with or without a space before it, gets its vector, or that of its lower case.

        All others get zeros.
        """
        self.vectors_VG.zero_()
        found = 0
        for row, text in zip(self.vectors_VG, token_texts, strict=True):
            word = text.removeprefix(" ")
            if (vector := words.get(word, words.get(word.lower()))) is None:
                continue
            if len(vector) != len(row):
                raise UserError(
                    f"the word vectors have {len(vector)} dimensions, but model.options.vector_width={len(row)}; "
                    f"set model.options.vector_width={len(vector)}"
                )
            row.copy_(torch.from_numpy(np.array(vector, np.float32)))
            found += 1
        if not found:
            raise UserError(
                f"none of {len(token_texts):,} tokens is one of the {len(words):,} words that have vectors; "
                "give vectors of the source language's words in model.options.vectors"
            )

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Look the vectors up."""
        return F.embedding(ids_BT, self.vectors_VG)


@register("cove")
class CoVe(RecurrentTranslator):
    """LSTMs over fixed word vectors, trained as the encoder of a translator (the MT-LSTM).

    The decoder attends with Luong's general score and input feeding. The paper's sizes: 2 layers of width 600, 300
    from either side, over GloVe's vectors of width 300.
    """

    def __init__(self, shape: Shape):
        options = read_options(shape, CoVeOptions)
        encoder = RecurrentEncoder(shape, options.vector_width, LSTM)
        super().__init__(shape, encoder, LuongDecoder(shape, "general", shape.width, LSTM, input_feeding=True))
        self.words = WordTable(shape.vocabulary_size, options.vector_width)
        self.vector_width = options.vector_width

    @property
    def feature_width(self) -> int:
        """That of the word vectors and that of the encoder."""
        return self.vector_width + self.shape.width

    def read_vectors(self, words: Mapping[str, NDArray[np.float32]], token_texts: Sequence[str]) -> None:
        """The vectors of words, and the texts of the ids 0, 1, ..."""
        self.words.read(words, token_texts)

    def embed_source(self, source_BS: Tensor) -> Tensor:
        """The word vectors (B, S, G)."""
        return self.words(source_BS)

    def text_features(self, ids_BT: Tensor, keep_BT: Tensor | None = None) -> Tensor:
        """[word vector; context vector] of each token, (B, T, G + D)."""
        return torch.cat([self.words(ids_BT), super().text_features(ids_BT, keep_BT)], -1)
