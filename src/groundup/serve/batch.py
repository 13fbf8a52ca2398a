"""Many answers at once: each row of a batch goes on from its own prompt, with one key/value cache for all.

No row is padded on the left: all stand at position 0. The cache is filled with as many tokens as every prompt
has, and from there on each row is fed its prompt's next token or, when that is over, its own. So positions and
masks are right as they are, whatever the lengths.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from groundup.errors import UserError
from groundup.model.decoder import Decoder

# More rows hardly make a step cheaper a row, and their caches and logits take memory.
_ROWS_AT_ONCE = 128
# Rows that are over leave when they are so many of the batch: each time the cache is copied.
_LEAVING_SHARE = 0.25


@dataclass(frozen=True)
class Answer:
    """What followed a prompt: ids, with the end where it was reached (`ended`)."""

    ids: list[int]
    ended: bool


@torch.no_grad()
def sample(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    temperature: float,
    stop: frozenset[int],
    seeds: Sequence[int],
) -> list[Answer]:
    """An answer to each prompt, of 1 to `max_tokens` tokens and at most as many as the context has room for.

    An answer ends with an id of `stop`, which belongs to it. Each row draws by its own seed: an answer does not
    depend on its batch, but for the rounding of sums. Temperature 0 takes the likeliest token. Dropout is off.
    UserError for a prompt that is empty, or leaves no room for an answer.
    """
    assert len(prompts) == len(seeds) and max_tokens > 0, "a seed for each prompt, and a token at least"
    context = model.shape.context
    for number, prompt in enumerate(prompts, 1):
        if not 0 < len(prompt) < context:
            raise UserError(
                f"prompt {number} has {len(prompt)} tokens, but must have 1 to {context - 1} for an answer to fit "
                f"into the model's context of {context}; shorten it"
            )
    rule = _Rule(max_tokens, temperature, stop)
    answers: dict[int, Answer] = {}
    # Prompts of similar length are read together, so that few tokens are fed one by one.
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    was_training = model.training
    model.eval()
    try:
        for first in range(0, len(order), _ROWS_AT_ONCE):
            part = order[first : first + _ROWS_AT_ONCE]
            found = _sample_rows(model, [prompts[n] for n in part], rule, [seeds[n] for n in part])
            answers |= zip(part, found, strict=True)
    finally:
        model.train(was_training)
    return [answers[number] for number in range(len(prompts))]


@dataclass(frozen=True)
class _Rule:
    """How tokens are chosen, and when an answer is over."""

    max_tokens: int
    temperature: float
    stop: frozenset[int]

    def choose(self, logits_BV: Tensor, uniform_B: Tensor) -> Tensor:
        """Tokens (B,) int64, by numbers drawn from [0, 1): the inverse of the cumulative distribution.

        In float64, since float32 sums lose rare tokens.
        """
        if self.temperature == 0:
            return logits_BV.argmax(-1)
        # The largest logit becomes 0, so that no temperature can overflow it.
        scaled_BV = (logits_BV.float() - logits_BV.float().amax(-1, keepdim=True)) / self.temperature
        cumulative_BV = scaled_BV.log_softmax(-1).double().exp().cumsum(-1)
        drawn_B1 = uniform_B.to(cumulative_BV.device)[:, None] * cumulative_BV[:, -1:]
        return torch.searchsorted(cumulative_BV, drawn_B1, right=True)[:, 0].clamp(max=logits_BV.shape[1] - 1)


def _sample_rows(model: Decoder, prompts: list[Sequence[int]], rule: _Rule, seeds: list[int]) -> list[Answer]:
    """The loop over positions for rows of one batch."""
    starts_B = torch.tensor([len(prompt) for prompt in prompts])
    ends_B = (starts_B + rule.max_tokens).clamp(max=model.shape.context)
    ids_BT = torch.zeros(len(prompts), int(ends_B.max()), dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids_BT[row, : len(prompt)] = torch.tensor(prompt)
    uniform_BT = _uniform(seeds, rule.max_tokens)
    stop_N = torch.tensor(sorted(rule.stop), dtype=torch.int64)
    ended_B, device = torch.zeros(len(prompts), dtype=torch.bool), model.embedding.weight.device

    cache = model.new_cache(len(prompts), capacity=ids_BT.shape[1])
    rows_N = torch.arange(len(prompts))  # those in the batch
    fed, position = 0, int(starts_B.min())
    while not (over_N := ended_B[rows_N] | (ends_B[rows_N] <= position)).all():
        if over_N.sum() >= _LEAVING_SHARE * len(rows_N):
            rows_N = rows_N[~over_N]
            cache.select((~over_N).nonzero()[:, 0].to(device))
            over_N = over_N[~over_N]
        features_ND = model.features(ids_BT[rows_N, fed:position].to(device), cache)[:, -1]
        drawn_N = (position - starts_B[rows_N]).clamp(0, rule.max_tokens - 1)
        tokens_N = rule.choose(model.unembed(features_ND), uniform_BT[rows_N, drawn_N])
        writes_N = (starts_B[rows_N] <= position) & ~over_N
        written = rows_N[writes_N]
        ids_BT[written, position] = tokens_N.cpu()[writes_N]
        fed, position = position, position + 1
        ending = written[torch.isin(ids_BT[written, fed], stop_N)]
        ended_B[ending], ends_B[ending] = True, position
    return [
        Answer(ids_BT[row, start:end].tolist(), ended)
        for row, (start, end, ended) in enumerate(
            zip(starts_B.tolist(), ends_B.tolist(), ended_B.tolist(), strict=True)
        )
    ]


def _uniform(seeds: list[int], count: int) -> Tensor:
    """Numbers from [0, 1) for each row, by its own seed; (B, count) float64."""
    generator = torch.Generator()
    return torch.stack(
        [torch.rand(count, dtype=torch.float64, generator=generator.manual_seed(seed)) for seed in seeds]
    )
