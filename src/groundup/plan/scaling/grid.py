"""Which small runs tell most of a law for their cost: sizes far apart, each with several numbers of tokens."""

from dataclasses import dataclass

import numpy as np

from groundup.errors import UserError
from groundup.plan.budget import Budget
from groundup.plan.choose import Corpus, Plan, alternatives, choose
from groundup.plan.hardware import Hardware
from groundup.recipe import Recipe
from groundup.shape import Shape

# Sizes should differ by so much, and the tokens of one size as well.
_SIZE_RANGE, _TOKEN_RANGE = 8.0, 8.0
# The largest size, over the one that would be best for the longest run.
_ABOVE_BEST = 3.0
# Runs of fewer steps tell of warming up, not of the law (benchmarks/LOG.md).
_FEWEST_STEPS = 600
# Numbers of tokens closer together than this are almost the same run.
_APART = 1.3
# Fewer are no run at all (`groundup.plan.choose`).
_LEAST_STEPS = 25
# What a build takes beside training, in seconds: measuring the machine, evaluating, writing the model.
RUN_OVERHEAD = 5.0
_SHRINKING_ROUNDS = 12


@dataclass(frozen=True)
class GridPoint:
    """One run: the model, its training tokens, and about how many seconds it should take, all told."""

    shape: Shape
    parameters: int
    tokens: int
    seconds: float


def choose_grid(
    recipe: Recipe,
    budget: Budget,
    hardware: Hardware,
    corpus: Corpus,
    vocabulary_size: int,
    runs: int,
    longest_seconds: float,
) -> list[GridPoint]:
    """Runs that together take no more than the budget, smallest model first.

    Args:
        recipe: with `model.context` set and without depth and width, which the grid varies.
        budget: of all runs together, in seconds, FLOPs or tokens.
        hardware: whose speed decides how many tokens a run of so many seconds has.
        corpus: the text.
        vocabulary_size: of the tokenizer that all runs share.
        runs: how many.
        longest_seconds: no single run takes longer, where time is the budget.

    Raises:
        UserError: the recipe fixes the size, or the budget is too small for so many runs.
    """
    refuse_fixed_size(recipe)
    if budget.kind not in {"seconds", "flops", "tokens"}:
        raise UserError(
            f"a sweep's --budget cannot be in {budget.kind}; give time (8m), FLOPs (1e15flop) or tokens"
        )
    grid = _Grid(recipe, hardware, corpus, vocabulary_size, runs)
    amount = budget.amount / runs
    if budget.kind == "seconds":
        amount = min(longest_seconds, budget.amount) - RUN_OVERHEAD
        if amount <= 0:
            raise UserError(
                f"a run takes {RUN_OVERHEAD:g} s beside training; give the sweep and each of its runs more time"
            )
    for _ in range(_SHRINKING_ROUNDS):
        points = grid.points(Budget(budget.kind, amount))
        spent = _spent(points, budget.kind)
        if spent <= budget.amount:
            return points
        amount *= 0.98 * budget.amount / spent
    raise UserError(f"--budget is too small for {runs} runs on this machine; give more, or fewer --runs")


def refuse_fixed_size(recipe: Recipe) -> None:
    """UserError for a recipe with which no two models would differ."""
    if recipe.model.num_layers is not None or recipe.model.width is not None:
        raise UserError(
            "a sweep varies the model's size, which the recipe fixes; leave model.num_layers and model.width unset"
        )


def _spent(points: list[GridPoint], kind: str) -> float:
    match kind:
        case "seconds":
            return sum(point.seconds for point in points)
        case "tokens":
            return float(sum(point.tokens for point in points))
        case _:
            return float(sum(6.0 * point.parameters * point.tokens for point in points))


@dataclass(frozen=True)
class _Grid:
    recipe: Recipe
    hardware: Hardware
    corpus: Corpus
    vocabulary_size: int
    runs: int

    def points(self, longest: Budget) -> list[GridPoint]:
        """The grid in which no run takes more than `longest`."""
        plans = alternatives(self.recipe, longest, self.hardware, self.corpus, self.vocabulary_size)
        if len(plans) < 2:
            raise UserError(
                f"{longest.amount:.3g} {longest.kind} a run are too little for models of different size on this "
                "machine; give the sweep a larger --budget or fewer --runs"
            )
        by_size = sorted(plans, key=lambda plan: plan.non_embedding_parameters)
        fewest = min(_tokens_of_fewest_steps(by_size[0]), by_size[0].tokens / _TOKEN_RANGE)
        best = choose(self.recipe, longest, self.hardware, self.corpus, self.vocabulary_size)
        sizes = self._sizes(by_size, best.non_embedding_parameters, fewest)
        ranges = [(_least_tokens(plan, fewest), float(plan.tokens)) for plan in sizes]
        counts = _shared_out(self.runs, [1 + int(np.log(most / least) / np.log(_APART)) for least, most in ranges])
        return [
            _point(plan, tokens)
            for plan, (least, most), count in zip(sizes, ranges, counts, strict=True)
            for tokens in (np.geomspace(least, most, count) if count > 1 else [most])
        ]

    def _sizes(self, plans: list[Plan], best: int, fewest: float) -> list[Plan]:
        """A few plans of sizes about evenly apart, from an eighth of the largest that can be trained enough."""
        parameters = np.array([plan.non_embedding_parameters for plan in plans], dtype=float)
        enough = np.array([plan.tokens >= 2.5 * fewest for plan in plans])
        fitting = np.flatnonzero(enough & (parameters <= _ABOVE_BEST * best))
        top = int(fitting[-1]) if len(fitting) else 0
        below = np.flatnonzero(parameters <= parameters[top] / _SIZE_RANGE)
        bottom = int(below[-1]) if len(below) else 0
        if parameters[top] < _SIZE_RANGE * parameters[bottom]:
            beyond = np.flatnonzero(parameters >= _SIZE_RANGE * parameters[bottom])
            top = int(beyond[0]) if len(beyond) else len(plans) - 1
        wanted = np.geomspace(parameters[bottom], parameters[top], max(2, round(self.runs**0.5)))
        places = {int(np.argmin(np.abs(np.log(parameters / size)))) for size in wanted}
        return [plans[place] for place in sorted(places)]


def _tokens_of_fewest_steps(plan: Plan) -> float:
    """Tokens of the fewest steps that tell something, with the batch that goes with them: about D^0.43."""
    return float(plan.tokens * (_FEWEST_STEPS / plan.steps) ** (1 / 0.429))


def _least_tokens(plan: Plan, fewest: float) -> float:
    least = max(fewest, plan.tokens / _TOKEN_RANGE, _LEAST_STEPS * plan.tokens / plan.steps)
    return float(min(least, plan.tokens))


def _shared_out(runs: int, rooms: list[int]) -> list[int]:
    """How many runs each size gets: as even as there is room for, the smaller first; all of them in any case."""
    counts = [0] * len(rooms)
    for _ in range(runs):
        free = [place for place, room in enumerate(rooms) if counts[place] < room] or [0]
        counts[min(free, key=counts.__getitem__)] += 1
    return counts


def _point(plan: Plan, tokens: float) -> GridPoint:
    step_tokens = plan.batch_size * plan.shape.context
    whole = max(1, round(tokens / step_tokens)) * step_tokens
    seconds = RUN_OVERHEAD + plan.train_seconds * whole / plan.tokens
    return GridPoint(plan.shape, plan.non_embedding_parameters, whole, seconds)
