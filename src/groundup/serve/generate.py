"""The generation engine: one token after the other, with a key/value cache."""

from collections.abc import Collection, Iterator

import torch
from torch import Tensor

from groundup.model.decoder import Decoder
from groundup.serve.sampling import Sampling, choose_token
from groundup.tokenizer import Tokenizer


class Reading:
    """What a model has read of one text: its ids, and their keys and values in a cache."""

    def __init__(self, model: Decoder):
        self._model, self._cache = model, model.new_cache()
        self.ids: list[int] = []

    @torch.no_grad()
    def logits(self, ids: list[int]) -> Tensor:
        """Logits (V,) on the CPU of what follows `ids`, of which only what was not read yet is computed.

        What the cache holds beyond the beginning that both have in common is forgotten.
        """
        shared = _num_shared(self.ids, ids[:-1])
        # Before the pass, so that one that is interrupted leaves nothing that is wrong.
        self.ids = ids[:shared]
        self._cache.truncate(shared)
        pending_1T = torch.tensor([ids[shared:]], device=self._model.embedding.weight.device)
        logits_V = self._model(pending_1T, self._cache)[0, -1].cpu()
        self.ids = list(ids)
        return logits_V


def _num_shared(one: list[int], other: list[int]) -> int:
    """How many ids both begin with."""
    least = min(len(one), len(other))
    if one[:least] == other[:least]:
        return least
    return next(place for place in range(least) if one[place] != other[place])


def generate_ids(
    model: Decoder,
    prompt: list[int],
    max_tokens: int,
    sampling: Sampling,
    seed: int,
    stop: Collection[int] = (),
    *,
    reading: Reading | None = None,
) -> Iterator[int]:
    """Up to `max_tokens` ids that follow `prompt`, ending before an id of `stop`.

    When the context is full, the earlier half is forgotten and the later half read again. `reading` may hold
    what the model has read of the prompt's beginning, and is read on with.
    """
    generator = torch.Generator().manual_seed(seed)
    context = model.shape.context
    ids, reading = prompt[-context:], reading or Reading(model)
    for _ in range(max_tokens):
        if len(ids) > context:
            ids = ids[-(context // 2) :]
        token = choose_token(reading.logits(ids), sampling, generator)
        if token in stop:
            return
        yield token
        ids = [*ids, token]


def generate_text(
    model: Decoder, tokenizer: Tokenizer, prompt: str, max_tokens: int, sampling: Sampling, seed: int
) -> Iterator[str]:
    """The text that follows `prompt`, piece by piece, never splitting a character; ends with the document.

    As in training, a document begins after the end of another: the prompt is put behind that mark.
    """
    was_training = model.training
    model.eval()
    ids = [tokenizer.end_of_text, *tokenizer.encode_ordinary(prompt)]
    try:
        yield from tokenizer.decode_stream(
            generate_ids(model, ids, max_tokens, sampling, seed, stop={tokenizer.end_of_text})
        )
    finally:
        model.train(was_training)
