"""Where a translator looks in its source while it writes: the weights of its attention (Bahdanau et al. 2015)."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from groundup.data.pairs import SEPARATOR
from groundup.errors import UserError
from groundup.model.translator import Translator
from groundup.tokenizer.load import AnyTokenizer


@runtime_checkable
class Aligns(Protocol):
    """A translator that tells where it looks."""

    def alignments(self, source_BS: Tensor, keep_BS: Tensor | None, target_BT: Tensor) -> Tensor:
        """Weights (B, T, S), of sum 1, with which what follows each target token is read from the source."""
        ...


@dataclass(frozen=True)
class Aligned:
    """The tokens of both texts, the target's with its end, and the weights (T, S)."""

    source: list[str]
    target: list[str]
    weights: list[list[float]]


@torch.no_grad()
def align(model: Translator, tokenizer: AnyTokenizer, source: str, target: str) -> Aligned:
    """Where the model looks as it writes `target`; UserError for a model that does not tell, or an empty text."""
    if not isinstance(model, Aligns):
        raise UserError(
            f"a model of the family {model.shape.family} does not tell its alignments; use seq2seq or cove"
        )
    ids = [tokenizer.encode_ordinary(text.strip()) for text in (source, target)]
    if not ids[0]:
        raise UserError("there is nothing to align: the text is empty")
    begin = tokenizer.special_tokens[SEPARATOR]
    weights_1TS = model.alignments(torch.tensor([ids[0]]), None, torch.tensor([[begin, *ids[1]]]))
    words = [[tokenizer.decode([id]) for id in text] for text in ids]
    return Aligned(words[0], [*words[1], "<|endoftext|>"], weights_1TS[0].tolist())
