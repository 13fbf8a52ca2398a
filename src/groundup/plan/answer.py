"""The planner's one question: what should I train for this budget?"""

import math
from collections.abc import Sequence
from typing import Protocol, TypeVar

from groundup.plan.budget import Budget, parse_budget
from groundup.plan.choose import Corpus, Plan, choose, choose_vocabulary
from groundup.plan.hardware import Hardware
from groundup.recipe import Recipe

# How much text a token stands for in English, by vocabulary (measured on books; in between: the next smaller).
_BYTES_PER_TOKEN = {512: 2.0, 1024: 2.7, 2048: 3.15, 4096: 3.6, 8192: 3.95, 16384: 4.2, 32768: 4.4}


# What answers show besides the plan: what these multiples of the budget would buy, and so many other models.
BUDGET_FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
MOST_ALTERNATIVES = 6
# Up to here text that is read again is worth almost as much as new text (Muennighoff et al. 2023).
HARMLESS_EPOCHS = 4.0


class Sized(Protocol):
    """A plan, of which only the size of its model counts here."""

    @property
    def parameters(self) -> int:
        """Of the model."""


SizedPlan = TypeVar("SizedPlan", bound=Sized)


def beside(best: SizedPlan, ranked: Sequence[SizedPlan], budget: Budget) -> list[SizedPlan]:
    """The plans to show beside the best, itself included, the nearest first.

    The `ranked` ones with the lowest loss; where tokens or steps are given, and a larger model always has a lower
    loss, those nearest in size.
    """
    if budget.kind in {"tokens", "steps"}:
        ranked = sorted(ranked, key=lambda plan: abs(math.log(plan.parameters / best.parameters)))
    return list(ranked[:MOST_ALTERNATIVES])


def plan(budget: str, hardware: Hardware, corpus_bytes: float, recipe: Recipe | None = None) -> Plan:
    """What to train with `budget` (such as "10m" or "5e15flop") on `hardware`, given so many bytes of text.

    Times and throughput come from the speed formula, the loss from the law for small runs. UserError if nothing
    fits.
    """
    recipe = recipe or Recipe()
    amount = parse_budget(budget)
    vocabulary_size = choose_vocabulary(recipe, amount, hardware, corpus_bytes)
    corpus = Corpus(corpus_bytes, bytes_per_token_of(vocabulary_size))
    return choose(recipe, amount, hardware, corpus, vocabulary_size)


def bytes_per_token_of(vocabulary_size: int) -> float:
    """About how many bytes of English a token of such a vocabulary stands for."""
    known = [size for size in _BYTES_PER_TOKEN if size <= vocabulary_size]
    return _BYTES_PER_TOKEN[max(known, default=512)]
