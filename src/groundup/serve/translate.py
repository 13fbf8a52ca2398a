"""Texts translated by a model that reads a source and writes a target."""

from collections.abc import Sequence

import torch

from groundup.data.pairs import SEPARATOR
from groundup.errors import UserError
from groundup.model.base import Model
from groundup.model.translator import Translator
from groundup.serve.beam import Search, beam_search
from groundup.tokenizer.load import AnyTokenizer

_SOURCES_AT_ONCE = 32
# A target may be so much longer than its source, as in Vaswani et al. 2017.
_MORE_TOKENS = 50


def translator(model: Model, tokenizer: AnyTokenizer) -> Translator:
    """The model as a translator; UserError if it is none."""
    if not isinstance(model, Translator) or SEPARATOR not in tokenizer.special_tokens:
        raise UserError(
            f"a model of the family {model.shape.family} does not translate; train one that does: `groundup train "
            "transformer` with pairs of texts"
        )
    return model


def translate(model: Translator, tokenizer: AnyTokenizer, texts: Sequence[str], *, beams: int = 4) -> list[str]:
    """The best translation that beam search finds of each text; nothing becomes nothing.

    UserError for a text that is longer than the model's context.
    """
    sources = [tokenizer.encode_ordinary(text.strip()) for text in texts]
    for text, source in zip(texts, sources, strict=True):
        if len(source) > model.shape.context:
            raise UserError(
                f"the text {text[:20]!r}... has {len(source)} tokens, more than the model's context of "
                f"{model.shape.context}; translate it sentence by sentence"
            )
    # Texts of similar length are read together, so that there is little padding.
    order = sorted(
        (number for number, source in enumerate(sources) if source), key=lambda number: len(sources[number])
    )
    translations = [""] * len(texts)
    was_training = model.training
    model.eval()
    for first in range(0, len(order), _SOURCES_AT_ONCE):
        part = order[first : first + _SOURCES_AT_ONCE]
        found = _search(model, tokenizer, [sources[number] for number in part], beams)
        for number, ids in zip(part, found, strict=True):
            translations[number] = tokenizer.decode(ids).strip()
    model.train(was_training)
    return translations


def _search(model: Translator, tokenizer: AnyTokenizer, sources: list[list[int]], beams: int) -> list[list[int]]:
    longest, device = max(map(len, sources)), next(model.parameters()).device
    source_BS = torch.tensor([[*ids, *[tokenizer.end_of_text] * (longest - len(ids))] for ids in sources])
    keep_BS = torch.arange(longest) < torch.tensor([[len(ids)] for ids in sources])
    search = Search(
        begin=tokenizer.special_tokens[SEPARATOR],
        end=tokenizer.end_of_text,
        max_tokens=min(longest + _MORE_TOKENS, model.shape.context),
        beams=beams,
    )
    return [targets[0].ids for targets in beam_search(model, source_BS.to(device), keep_BS.to(device), search)]
