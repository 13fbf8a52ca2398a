"""The generation engine: one token after the other, with a key/value cache."""

from collections.abc import Iterator

import torch

from groundup.model.decoder import Decoder
from groundup.serve.sampling import Sampling, choose_token
from groundup.tokenizer import Tokenizer


@torch.no_grad()
def generate_ids(
    model: Decoder, prompt: list[int], max_tokens: int, sampling: Sampling, seed: int, stop: int | None = None
) -> Iterator[int]:
    """Up to `max_tokens` ids that follow `prompt`, ending before the id `stop`.

    When the context is full, the earlier half is forgotten and the later half read again.
    """
    generator = torch.Generator().manual_seed(seed)
    context = model.shape.context
    ids, cache = prompt[-context:], model.new_cache()
    pending = ids
    for _ in range(max_tokens):
        if cache.length + len(pending) > context:
            pending, cache = ids[-(context // 2) :], model.new_cache()
        logits_BTV = model(torch.tensor([pending], device=model.embedding.weight.device), cache)
        token = choose_token(logits_BTV[0, -1].cpu(), sampling, generator)
        if token == stop:
            return
        yield token
        pending = [token]
        ids = [*ids[-context:], token]


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
            generate_ids(model, ids, max_tokens, sampling, seed, stop=tokenizer.end_of_text)
        )
    finally:
        model.train(was_training)
