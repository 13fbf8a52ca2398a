"""Choosing the next token from the model's logits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from groundup.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """How to choose: temperature 0 takes the likeliest token; top_k 0 and top_p 1 leave all tokens in.

    Top-k: Fan et al. 2018 (arXiv:1805.04833); top-p, or nucleus: Holtzman et al. 2020 (arXiv:1904.09751).
    """

    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise UserError(
                f"--temperature {self.temperature} is not 0 or more; 0 is the least random, 1 the model's own"
            )
        if self.top_k < 0:
            raise UserError(f"--top-k {self.top_k} is below 0; 0 keeps all tokens")
        if not 0 < self.top_p <= 1:
            raise UserError(f"--top-p {self.top_p} is not above 0 and at most 1; 1 keeps all tokens")


def choose_token(logits_V: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """The id of the next token."""
    if sampling.temperature == 0:
        return int(logits_V.argmax())
    # The largest logit becomes 0, so that no temperature can overflow it.
    scaled_V = (logits_V.float() - logits_V.max()) / sampling.temperature
    probabilities_V = torch.softmax(truncate(scaled_V, sampling), dim=-1)
    return int(torch.multinomial(probabilities_V, 1, generator=generator))


def truncate(logits_V: Tensor, sampling: Sampling) -> Tensor:
    """The logits with those outside the top k, then those outside the top p, at -inf."""
    ordered_V, ids_V = logits_V.sort(descending=True)
    keep_V = torch.ones_like(ordered_V, dtype=torch.bool)
    if sampling.top_k:
        keep_V[sampling.top_k :] = False
    if sampling.top_p < 1:
        probabilities_V = torch.softmax(ordered_V.masked_fill(~keep_V, float("-inf")), dim=-1)
        # A token stays if those before it have not filled p yet: the first always does.
        keep_V &= probabilities_V.cumsum(dim=-1) - probabilities_V < sampling.top_p
    return torch.full_like(logits_V, float("-inf")).scatter(0, ids_V[keep_V], ordered_V[keep_V])
