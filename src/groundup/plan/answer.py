"""The planner's one question: what should I train for this budget?"""

from groundup.plan.budget import parse_budget
from groundup.plan.choose import Corpus, Plan, choose, choose_vocabulary
from groundup.plan.hardware import Hardware
from groundup.recipe import Recipe

# How much text a token stands for in English, by vocabulary (measured on books; in between: the next smaller).
_BYTES_PER_TOKEN = {512: 2.0, 1024: 2.7, 2048: 3.15, 4096: 3.6, 8192: 3.95, 16384: 4.2, 32768: 4.4}


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
