"""Beam search: the most likely targets of a source, as far as keeping a few at a time finds them.

With the length penalty of Wu et al. 2016 (arXiv:1609.08144, section 7), since a sum of log-probabilities prefers
what is short.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from groundup.model.translator import Translator

LENGTH_PENALTY = 0.6


@dataclass(frozen=True)
class Hypothesis:
    """A target without its end; `log_probability` in nats, with the end where it was reached (`finished`)."""

    ids: list[int]
    log_probability: float
    score: float
    finished: bool


@dataclass(frozen=True)
class Search:
    """How to search: `begin` is read first, `end` ends a target, of at most `max_tokens` tokens with the end.

    The score is log p / ((5 + tokens) / 6)^`length_penalty`, the end counted; 0 leaves the log-probability.
    """

    begin: int
    end: int
    max_tokens: int
    beams: int = 4
    length_penalty: float = LENGTH_PENALTY

    def score(self, log_probability: float, num_tokens: int) -> float:
        """What hypotheses are ordered by, the best first."""
        return log_probability / ((5 + num_tokens) / 6) ** self.length_penalty


@torch.no_grad()
def beam_search(
    model: Translator, source_BS: Tensor, keep_BS: Tensor | None, search: Search
) -> list[list[Hypothesis]]:
    """Up to `beams` targets of each source, the best first.

    In each step the likeliest continuations of all beams of a source are looked at: those among the first `beams`
    that end are finished, and the first `beams` that do not go on. A source is done when `beams` targets are
    finished; where `max_tokens` comes before, those cut off follow. One beam is greedy search.
    """
    beams, batch = search.beams, len(source_BS)
    state = model.start(model.encode(source_BS, keep_BS), beams)
    device = source_BS.device
    written_NT = torch.full((batch * beams, 1), search.begin, device=device)
    # In the beginning all beams of a source are alike: only the first counts.
    alive_Bk = torch.full((batch, beams), -torch.inf, device=device)
    alive_Bk[:, 0] = 0.0
    found: list[list[Hypothesis]] = [[] for _ in range(batch)]
    first_B1 = torch.arange(batch, device=device)[:, None] * beams
    for length in range(1, search.max_tokens + 1):
        logits_NV, state = model.step(state, written_NT[:, -1])
        total_BkV = alive_Bk[:, :, None] + logits_NV.float().log_softmax(-1).view(batch, beams, -1)
        # At most one continuation of each beam is the end, so that `beams` others are among these.
        best_B2k, where_B2k = total_BkV.flatten(1).topk(min(2 * beams, total_BkV[0].numel()))
        rows_B2k = first_B1 + where_B2k // total_BkV.shape[-1]
        tokens_B2k = where_B2k % total_BkV.shape[-1]
        ended_B2k = tokens_B2k == search.end
        done = [len(targets) >= beams for targets in found]
        for source, rank in (ended_B2k & best_B2k.isfinite())[:, :beams].nonzero().tolist():
            if not done[source]:
                ids, value = written_NT[rows_B2k[source, rank], 1:].tolist(), float(best_B2k[source, rank])
                found[source].append(Hypothesis(ids, value, search.score(value, length), finished=True))
        alive_Bk, kept_Bk = best_B2k.masked_fill(ended_B2k, -torch.inf).topk(beams)
        rows_N = rows_B2k.gather(1, kept_Bk).flatten()
        written_NT = torch.cat([written_NT[rows_N], tokens_B2k.gather(1, kept_Bk).view(-1, 1)], 1)
        if all(len(targets) >= beams for targets in found):
            break
        state = model.reorder(state, rows_N)
    cut = _cut(written_NT.view(batch, beams, -1), alive_Bk, search)
    return [
        [*sorted(targets, key=lambda target: -target.score), *others][:beams]
        for targets, others in zip(found, cut, strict=True)
    ]


def _cut(written_BkT: Tensor, alive_Bk: Tensor, search: Search) -> list[list[Hypothesis]]:
    """What is still going on, of each source the best first."""
    num_tokens = written_BkT.shape[-1] - 1
    return [
        [
            Hypothesis(ids[1:], value, search.score(value, num_tokens), finished=False)
            for ids, value in zip(targets, values, strict=True)
            if value > -torch.inf
        ]
        for targets, values in zip(written_BkT.tolist(), alive_Bk.tolist(), strict=True)
    ]
