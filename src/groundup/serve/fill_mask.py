"""Filling gaps: which tokens a masked language model holds for likely in the place of a mask."""

import re
from dataclasses import dataclass

import torch

from groundup.errors import UserError
from groundup.model.base import Model
from groundup.model.families.bert import Bert
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.library import LibraryTokenizer

# What stands for a gap, before and behind a text: ours, and BERT's own.
_OURS, _THEIRS = ("<|mask|>", "<|cls|>", "<|sep|>"), ("[MASK]", "[CLS]", "[SEP]")


@dataclass(frozen=True)
class Filling:
    """A token's text, with the space before it where it has one, and its probability."""

    token: str
    probability: float


@torch.no_grad()
def fill_mask(
    model: Model, tokenizer: Tokenizer | LibraryTokenizer, text: str, top: int = 5
) -> list[list[Filling]]:
    """The `top` likeliest tokens for each mask in the text, `<|mask|>` or `[MASK]`, in their order.

    All gaps are filled at once, each as if the others stayed gaps. UserError for a model that was not trained to,
    a text without a gap, or one longer than the context.
    """
    if not isinstance(model, Bert):
        raise UserError(
            f"a model of the family {model.shape.family} does not fill gaps; give one of the family bert"
        )
    mask, cls, sep = _names(tokenizer)
    text = re.sub("|".join(map(re.escape, (_OURS[0], _THEIRS[0]))), lambda _: mask, text)
    if isinstance(tokenizer, Tokenizer):
        # A word's token has the space before it.
        text = text.replace(f" {mask}", mask)
    known = tokenizer.special_tokens
    ids = [known[cls], *tokenizer.encode(text, allowed_special={mask}, disallowed_special=frozenset()), known[sep]]
    if known[mask] not in ids:
        raise UserError(f"the text has no gap; write {mask} where a token is to be filled in")
    if len(ids) > model.shape.context:
        raise UserError(
            f"the text has {len(ids) - 2} tokens, more than the {model.shape.context - 2} that the model reads at "
            "once; shorten it"
        )
    ids_T = torch.tensor(ids, device=model.embedding.weight.device)
    features_TD = model.features(ids_T[None])[0]
    probabilities_NV = model.token_logits(features_TD[ids_T == known[mask]]).float().softmax(-1)
    best = probabilities_NV.topk(min(top, probabilities_NV.shape[1]))
    return [
        [Filling(tokenizer.decode([id]), value) for id, value in zip(row_ids, values, strict=True)]
        for row_ids, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _names(tokenizer: Tokenizer | LibraryTokenizer) -> tuple[str, str, str]:
    for names in (_OURS, _THEIRS):
        if all(name in tokenizer.special_tokens for name in names):
            return names
    raise UserError(
        f"the tokenizer has neither {', '.join(_OURS)} nor {', '.join(_THEIRS)}; give the folder of a masked model"
    )
