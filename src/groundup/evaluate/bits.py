"""Bits per byte: how many bits the model needs, with its probabilities, to write down a byte of text."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from groundup.errors import UserError
from groundup.model.decoder import Decoder
from groundup.objective import number_documents
from groundup.plan.hardware import Precision
from groundup.tokenizer import Tokenizer
from groundup.train.compile import eager
from groundup.train.precision import autocast, reading_precision

# Windows read at once: enough to fill the processor; the logits of many more would set the memory peak of a run.
_TOKENS_AT_ONCE = 1024


@dataclass(frozen=True)
class Evaluation:
    """The figures of a text under a model; `loss` in nats a token."""

    loss: float
    bits_per_byte: float
    perplexity: float
    tokens: int
    bytes: int

    @property
    def bytes_per_token(self) -> float:
        """How much text a token stands for."""
        return self.bytes / self.tokens


def evaluate_tokens(
    model: Decoder,
    tokens: npt.NDArray[np.integer],
    byte_lengths: npt.NDArray[np.int32],
    *,
    device: str,
    precision: Precision,
    end_of_text: int | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Evaluation:
    """Cross-entropy over a stream of tokens (N,), cut into windows of the model's context.

    Every token but the first is predicted once, from the part of its window before it (no overlap: as in
    training), or with `end_of_text` from the part that is of its document. `byte_lengths` (V,) counts the bytes of
    each token; special tokens have 0 and are left out of all figures, so that bits per byte is about text alone,
    whatever the tokenizer. UserError if there is no text.
    """
    nats_N = token_nats(
        model, tokens, device=device, precision=precision, end_of_text=end_of_text, on_progress=on_progress
    )
    return figures(nats_N, byte_lengths[tokens[1:]])


@torch.no_grad()
def token_nats(
    model: Decoder,
    tokens: npt.NDArray[np.integer],
    *,
    device: str,
    precision: Precision,
    end_of_text: int | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Tensor:
    """What each token but the first costs, in nats, (N - 1,) float32 on the CPU; arguments as there."""
    parts = [torch.empty(0)]
    was_training = model.training
    model.eval()
    for done, (inputs_BT, targets_BT) in _windows(tokens, model.shape.context, device):
        documents_BT = None if end_of_text is None else number_documents(inputs_BT, end_of_text)
        with eager(), autocast(device, reading_precision(precision)):
            logits_BTV = model(inputs_BT, documents_BT=documents_BT)
        logits_NV = logits_BTV.flatten(0, 1).float()
        parts.append(F.cross_entropy(logits_NV, targets_BT.flatten(), reduction="none").cpu())
        if on_progress:
            on_progress(done)
    model.train(was_training)
    return torch.cat(parts)


def figures(nats_N: Tensor, byte_lengths_N: npt.NDArray[np.int32]) -> Evaluation:
    """The figures of tokens that cost so many nats and stand for so many bytes; those of 0 bytes do not count."""
    count, num_bytes = int((byte_lengths_N > 0).sum()), int(byte_lengths_N.sum())
    if not num_bytes:
        raise UserError("the text to evaluate has fewer than two tokens; give a longer text")
    nats = float(nats_N.double()[torch.from_numpy(byte_lengths_N > 0)].sum())
    loss = nats / count
    return Evaluation(loss, nats / math.log(2) / num_bytes, math.exp(min(loss, 700.0)), count, num_bytes)


def evaluate_text(
    model: Decoder, tokenizer: Tokenizer, text: bytes, on_progress: Callable[[float], None] | None = None
) -> Evaluation:
    """The figures of one document, in float32 on the CPU."""
    ids = np.concatenate([[tokenizer.end_of_text], tokenizer.encode_array(text)]).astype(np.int64)
    return evaluate_tokens(
        model, ids, tokenizer.byte_lengths, device="cpu", precision="fp32", on_progress=on_progress
    )


def _windows(
    tokens: npt.NDArray[np.integer], context: int, device: str
) -> Iterator[tuple[float, tuple[torch.Tensor, torch.Tensor]]]:
    """(share done, (inputs, targets)) of full windows in batches, then of what is left."""
    num_full = (len(tokens) - 1) // context
    at_once = max(1, _TOKENS_AT_ONCE // context)
    for first in range(0, num_full, at_once):
        last = min(first + at_once, num_full)
        part = torch.from_numpy(tokens[first * context : last * context + 1].astype(np.int64)).to(device)
        yield last * context / len(tokens), (part[:-1].view(-1, context), part[1:].view(-1, context))
    rest = torch.from_numpy(tokens[num_full * context :].astype(np.int64)).to(device)
    if len(rest) > 1:
        yield 1.0, (rest[None, :-1], rest[None, 1:])
