"""The choice on many devices: which model on how many tokens in which layout, for time, money or computation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from groundup.errors import UserError
from groundup.plan.budget import Budget
from groundup.plan.candidates import batch_tokens_for, batch_tokens_for_steps, ladder
from groundup.plan.cluster.devices import Cluster
from groundup.plan.cluster.search import Candidate, search
from groundup.plan.cluster.states import StateRecipe
from groundup.plan.flops import train_flops_per_token
from groundup.plan.parameters import active, active_non_embedding, total
from groundup.plan.scaling.batch import kaplan_critical_batch
from groundup.plan.scaling.fitted import FittedLaw
from groundup.plan.scaling.laws import KaplanLaw
from groundup.plan.scaling.published import DEFAULT
from groundup.recipe import ModelRecipe
from groundup.shape import Shape

# The share of the peak with which the first guess of the tokens is made.
_GUESSED_UTILISATION = 0.35
_FEWEST_STEPS = 100
_FEWEST_TOKENS_OF_BATCH_RULE = 1e6
# More tokens a step than this are beyond the critical batch of every published model.
MOST_BATCH_TOKENS = 16 << 20
# The most often that text was read in runs that a law was held against (Muennighoff et al. 2023).
MOST_EPOCHS = 44


@dataclass(frozen=True)
class ClusterPlan:
    """A model, its tokens and its layout on a cluster, and what to expect. Times in seconds.

    `law_parameters` are those that the law counts. `rule_batch` (sequences) is what the batch rule gives for
    `batch_rule_tokens`, `critical_batch` (tokens) where a larger batch stops to pay, and `worth_tokens` how many
    tokens in batches of the rule's size would teach as much.
    """

    shape: Shape
    parameters: int
    law_parameters: int
    tokens: float
    steps: int
    batch_rule_tokens: float
    rule_batch: int
    critical_batch: float
    worth_tokens: float
    candidate: Candidate
    seconds: float
    flops: float
    loss: float
    loss_low: float
    loss_high: float


@dataclass(frozen=True)
class ClusterChooser:
    """Plans for one cluster and budget. `unique_tokens` is None where text is not to be the limit."""

    budget: Budget
    cluster: Cluster
    states: StateRecipe
    law: FittedLaw
    usd_per_hour: float
    unique_tokens: float | None = None
    batch_size: int | None = None
    # Multiples of a budget ask for the same layouts again.
    found: dict[tuple[Shape, int], Candidate] = field(default_factory=dict, repr=False, compare=False)

    def ranked(self, shapes: Sequence[Shape]) -> list[ClusterPlan]:
        """A plan for each shape that can be trained, the lowest loss first; UserError if there is none."""
        plans, misfit = [], None
        for shape in shapes:
            try:
                plans.append(self.plan(shape))
            except UserError as error:
                misfit = misfit or error
        if not plans:
            raise misfit or UserError("no model was asked for")
        return sorted(plans, key=lambda plan: plan.loss)

    def plan(self, shape: Shape) -> ClusterPlan:
        """The plan for one shape; UserError where it does not fit or the budget is too little."""
        tokens = self._tokens(shape, self._guessed_throughput(shape))
        # The batch follows the tokens and the throughput the batch: twice is enough, since the rule is flat.
        for _ in range(2):
            rule_tokens = max(tokens, _FEWEST_TOKENS_OF_BATCH_RULE)
            rule_batch = self._batch(shape, rule_tokens)
            critical = kaplan_critical_batch(DEFAULT.fresh(total(shape), rule_tokens))
            fixed = self.batch_size
            candidate = self._layout(shape, fixed) if fixed else self._grown(shape, rule_batch, critical)
            tokens = self._tokens(shape, candidate.time.tokens_per_second)
        step_tokens = candidate.layout.batch * shape.context
        of_steps = self.budget.kind == "steps"
        steps = int(self.budget.amount if of_steps else tokens / step_tokens)
        if steps < (1 if of_steps else _FEWEST_STEPS):
            raise self._too_little(step_tokens)
        tokens = steps * step_tokens
        law_parameters = self._law_parameters(shape)
        worth = tokens * min(1.0, (1 + rule_batch * shape.context / critical) / (1 + step_tokens / critical))
        loss, low, high = self.law.predict(law_parameters, worth, self.unique_tokens)
        if self.law.law.unit == "nats per token" and loss > math.log(shape.vocabulary_size):
            raise UserError(
                f"{tokens:.3g} tokens are too few for a model of {total(shape):.3g} parameters: by the law of the "
                "loss it would do worse than guessing; give more --budget or --data, or plan for 'this' machine"
            )
        return ClusterPlan(
            shape=shape,
            parameters=total(shape),
            law_parameters=law_parameters,
            tokens=tokens,
            steps=steps,
            batch_rule_tokens=rule_tokens,
            rule_batch=rule_batch,
            critical_batch=critical,
            worth_tokens=worth,
            candidate=candidate,
            seconds=tokens / candidate.time.tokens_per_second,
            flops=tokens * train_flops_per_token(shape),
            loss=loss,
            loss_low=low,
            loss_high=high,
        )

    def _grown(self, shape: Shape, rule_batch: int, critical: float) -> Candidate:
        """The layout for the batch that teaches most in a second: the rule's, or doubled to keep devices busy.

        Beyond the critical batch tokens are worth less and less: E = E_min (1 + B / B_crit) of them lead to the
        same loss (McCandlish et al. 2018, arXiv:1812.06162). UserError where no batch fits.
        """
        best, best_worth, misfit, batch = None, 0.0, None, rule_batch
        while batch == rule_batch or batch * shape.context <= MOST_BATCH_TOKENS:
            try:
                candidate = self._layout(shape, batch)
            except UserError as error:
                misfit = misfit or error
            else:
                worth = candidate.time.tokens_per_second / (1 + batch * shape.context / critical)
                if worth <= best_worth:
                    break
                best, best_worth = candidate, worth
            batch *= 2
        if best is None:
            raise misfit or UserError("no batch was tried")
        return best

    def _too_little(self, step_tokens: int) -> UserError:
        if self.unique_tokens and MOST_EPOCHS * self.unique_tokens < _FEWEST_STEPS * step_tokens:
            return UserError(
                f"{self.unique_tokens:.3g} tokens of text are too few: read {MOST_EPOCHS} times, they are no "
                f"{_FEWEST_STEPS} steps of {step_tokens:,} tokens; give more --data, or plan for 'this' machine"
            )
        return UserError(
            f"{self.budget.amount:.3g} {self.budget.kind} are too little for {_FEWEST_STEPS} steps of "
            f"{step_tokens:,} tokens on {self.cluster.name}; give a larger --budget, a smaller model or fewer "
            "devices"
        )

    def _law_parameters(self, shape: Shape) -> int:
        """N as the law's runs count it: without embeddings in those of our sweeps and of Kaplan et al. 2020."""
        law = self.law.law
        without = law.unit == "bits per byte" or isinstance(law, KaplanLaw)
        return active_non_embedding(shape) if without else active(shape)

    def _layout(self, shape: Shape, batch: int) -> Candidate:
        if (shape, batch) not in self.found:
            self.found[shape, batch] = search(shape, self.cluster, batch, self.states, limit=1)[0]
        return self.found[shape, batch]

    def times(self, factor: float) -> "ClusterChooser":
        """The same for a multiple of the budget."""
        return replace(self, budget=replace(self.budget, amount=factor * self.budget.amount))

    def _tokens(self, shape: Shape, tokens_per_second: float) -> float:
        """What the budget buys, but no more than reading all of the text so often that a law still knows it."""
        most = MOST_EPOCHS * self.unique_tokens if self.unique_tokens else math.inf
        return min(most, self._affordable_tokens(shape, tokens_per_second))

    def _affordable_tokens(self, shape: Shape, tokens_per_second: float) -> float:
        amount = self.budget.amount
        match self.budget.kind:
            case "seconds":
                return amount * tokens_per_second
            case "usd":
                return amount / self.usd_per_hour * 3600.0 * tokens_per_second
            case "flops":
                return amount / train_flops_per_token(shape)
            case "tokens":
                return amount
            case "steps":
                fixed = self.batch_size and self.batch_size * shape.context
                return amount * (fixed or batch_tokens_for_steps(amount))

    def _guessed_throughput(self, shape: Shape) -> float:
        peak = self.cluster.count * self.cluster.device.flops_bf16
        return _GUESSED_UTILISATION * peak / train_flops_per_token(shape)

    def _batch(self, shape: Shape, tokens: float) -> int:
        """Sequences a step by the batch rule, rounded so that they divide over the devices."""
        wanted = min(MOST_BATCH_TOKENS, batch_tokens_for(tokens)) / shape.context
        return int(self.odd_part * 2 ** max(0, round(math.log2(wanted / self.odd_part))))

    @property
    def odd_part(self) -> int:
        """The largest odd number that divides the devices: of a batch, so that it divides over them."""
        return self.cluster.count // (self.cluster.count & -self.cluster.count)


def shapes_for(model: ModelRecipe, vocabulary_size: int, context: int) -> list[Shape]:
    """The rungs that a cluster may train: all of the ladder from the width at which devices are kept busy."""
    return [shape for shape in ladder(model, vocabulary_size, context) if shape.width >= 512]
