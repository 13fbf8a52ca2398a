"""What a budget buys on one machine: the plan, what comes next to it, and what more or less would buy."""

import math
from dataclasses import dataclass, replace

from groundup.errors import UserError
from groundup.plan.answer import BUDGET_FACTORS, HARMLESS_EPOCHS, beside, bytes_per_token_of
from groundup.plan.batching import tokens_of_batch_rule
from groundup.plan.budget import Budget
from groundup.plan.candidates import REFERENCE_BATCH_TOKENS, REFERENCE_PARAMETERS, rate_rule
from groundup.plan.choose import (
    Corpus,
    Plan,
    alternatives,
    choose,
    choose_vocabulary,
)
from groundup.plan.energy import co2_figure, energy_wh, full_watts
from groundup.plan.figures import Answer, Chart, Column, Figure, Series, Table
from groundup.plan.hardware import Hardware
from groundup.plan.loss import SMALL_RUNS, ExpectedLoss, effective_tokens
from groundup.plan.memory import ALLOCATOR_SLACK, train_parts
from groundup.plan.model_figures import epochs_figures, flops_figure, next_best, shape_figures, tokens_figure
from groundup.plan.money import own_price
from groundup.recipe import Recipe


@dataclass(frozen=True)
class Question:
    """What was asked: `corpus_bytes` is None where text is not to be the limit; money buys hours at a price."""

    recipe: Recipe
    budget: Budget
    hardware: Hardware
    corpus_bytes: float | None = None
    law: ExpectedLoss = SMALL_RUNS
    peak_factor: float = 1.0
    usd_per_hour: float | None = None
    region: str = "world"

    @property
    def corpus(self) -> Corpus:
        """The text, in the tokens of the vocabulary that the budget asks for."""
        return Corpus(self.corpus_bytes or math.inf, bytes_per_token_of(self.vocabulary_size))

    @property
    def vocabulary_size(self) -> int:
        """The vocabulary that `choose` would take."""
        known = self.corpus_bytes or math.inf
        return choose_vocabulary(self.recipe, self.spendable, self.hardware, known)

    @property
    def spendable(self) -> Budget:
        """The budget with money turned into seconds."""
        if self.budget.kind != "usd":
            return self.budget
        if self.usd_per_hour is None:
            raise UserError(
                "a budget of money needs what an hour of this machine costs: give --price USD_PER_HOUR"
            )
        return Budget("seconds", 3600.0 * self.budget.amount / own_price(self.usd_per_hour).typical)

    def plan(self, factor: float = 1.0) -> Plan:
        """The plan for a multiple of the budget."""
        budget = replace(self.spendable, amount=factor * self.spendable.amount)
        return choose(
            self.recipe,
            budget,
            self.hardware,
            self.corpus,
            self.vocabulary_size,
            law=self.law,
            peak_factor=self.peak_factor,
        )


def machine_answer(question: Question) -> Answer:
    """The answer for this machine; UserError where the budget cannot be met."""
    plan = question.plan()
    front = _front(question)
    ranked = alternatives(
        question.recipe,
        question.spendable,
        question.hardware,
        question.corpus,
        question.vocabulary_size,
        question.law,
        question.peak_factor,
    )
    others = beside(plan, ranked, question.spendable)
    return Answer(
        title=f"Plan for {question.hardware.name}",
        figures=_figures(question, plan),
        tables=[
            _table("alternatives", "Other models for the same budget", others),
            _table("front", "What less and more would buy", front),
        ],
        charts=[
            Chart(
                name="front",
                title="What less and more would buy",
                kind="lines",
                x_label="training time",
                y_label="expected bits per byte",
                x_unit="seconds",
                y_unit="bits per byte",
                series=[
                    Series(
                        "best model", [one.train_seconds for one in front], [one.bits_per_byte for one in front]
                    )
                ],
                log_x=True,
            )
        ],
        notes=[_binding(question, plan), *_next_best(plan, others), *_doubled(question, plan)],
    )


def _front(question: Question) -> list[Plan]:
    plans = []
    for factor in BUDGET_FACTORS:
        try:
            plans.append(question.plan(factor))
        except UserError:
            continue  # too little for any model
    return plans


def _figures(question: Question, plan: Plan) -> list[Figure]:
    return [
        *_model(plan),
        *_schedule(question, plan),
        *_costs(question, plan),
        *_money_and_energy(question, plan),
        _loss(question, plan),
    ]


def _model(plan: Plan) -> list[Figure]:
    shape = plan.shape
    return [
        Figure("family", "family", shape.family),
        Figure("parameters", "parameters", plan.parameters, "count", formula="blocks + embeddings",
               values={"blocks": plan.non_embedding_parameters,
                       "embeddings": plan.parameters - plan.non_embedding_parameters},
               source="counted from the shape; groundup plan ledger RUN lists every weight"),
        *shape_figures(shape),
    ]  # fmt: skip


def _schedule(question: Question, plan: Plan) -> list[Figure]:
    return [
        tokens_figure(plan.shape, plan.steps, plan.batch_size),
        *epochs_figures(plan.tokens, question.corpus.tokens if question.corpus_bytes else None),
        Figure("steps", "steps", plan.steps, "steps"),
        _batch_size(question, plan),
        _learning_rate(question, plan),
        Figure("precision", "precision", plan.precision),
    ]  # fmt: skip


def _batch_size(question: Question, plan: Plan) -> Figure:
    if question.recipe.train.batch_size:
        return Figure("batch_size", "sequences a step", plan.batch_size, "count", source="train.batch_size")
    tokens = tokens_of_batch_rule(plan.shape, question.spendable, question.hardware, plan.precision)
    return Figure("batch_size", "sequences a step", plan.batch_size, "count",
                  formula="2^floor(log2(max(1, 0.4 D^0.571 / T)))",
                  values={"D": tokens, "T": plan.shape.context},
                  source="exponent of Li et al. 2025, arXiv:2503.04715; factor from benchmarks/LOG.md; D: "
                         "what the budget comes to before rounding")  # fmt: skip


def _learning_rate(question: Question, plan: Plan) -> Figure:
    train = question.recipe.train
    if train.lr:
        return Figure("lr", "learning rate", plan.lr, source="train.lr")
    rule = rate_rule(train.optimizer)
    return Figure("lr", "learning rate", plan.lr, formula="s min(m, r (N / n)^-a (B T / k)^b)",
                  values={"s": train.lr_scale, "m": rule.highest, "r": rule.at_reference,
                          "N": plan.law_parameters, "n": REFERENCE_PARAMETERS, "a": rule.exponent,
                          "B": plan.batch_size, "T": plan.shape.context, "k": REFERENCE_BATCH_TOKENS,
                          "b": rule.batch_exponent},
                  source="benchmarks/LOG.md; square root: Malladi et al. 2022, arXiv:2205.10287")  # fmt: skip


def _costs(question: Question, plan: Plan) -> list[Figure]:
    shape, hardware = plan.shape, question.hardware
    seconds_a_step = plan.train_seconds / plan.steps
    speed = "calibrated here" if hardware.speed else "weights fitted to another processor"
    memory = train_parts(
        shape, plan.micro_batch, plan.precision, plan.settings(question.recipe.train), plan.batch_size
    )
    return [
        flops_figure(shape, plan.tokens),
        Figure("tokens_per_second", "throughput", plan.tokens_per_second, "tokens/s", formula="B T / t",
               values={"B": plan.batch_size, "T": shape.context, "t": seconds_a_step},
               source=f"t: the weighted parts of a step (groundup.plan.speed), {speed}"),
        Figure("train_seconds", "training time", plan.train_seconds, "seconds", formula="S t",
               values={"S": plan.steps, "t": seconds_a_step}, source=speed),
        Figure("peak_bytes", "memory at the peak", plan.peak_bytes, "bytes",
               formula="c (process + a tensors + update)",
               values={"c": question.peak_factor, "a": ALLOCATOR_SLACK, **memory},
               source="groundup.plan.memory; after Korthikanti et al. 2022, arXiv:2205.05198; c from past runs"),
    ]  # fmt: skip


def _money_and_energy(question: Question, plan: Plan) -> list[Figure]:
    """What the time costs, where a price was given, and the electricity."""
    figures = []
    if question.usd_per_hour is not None:
        rate, hours = own_price(question.usd_per_hour), plan.train_seconds / 3600.0
        figures.append(
            Figure(
                "usd",
                "cost",
                hours * rate.typical,
                "usd",
                formula="h p",
                values={"h": hours, "p": rate.typical},
                source=rate.source,
            )
        )
    kwh = energy_wh(question.hardware, plan.train_seconds) / 1000.0
    return [
        *figures,
        Figure("energy_kwh", "energy", kwh, "kwh", formula="W t / 3.6e6",
               values={"W": full_watts(question.hardware), "t": plan.train_seconds},
               source="groundup.plan.energy, within a factor of two"),
        co2_figure(kwh, question.region),
    ]  # fmt: skip


def _loss(question: Question, plan: Plan) -> Figure:
    law = question.law
    fresh = effective_tokens(plan.tokens, question.corpus.tokens)
    repeated = "; D: as many fresh tokens as serve as well (Muennighoff et al. 2023, arXiv:2305.16264)"
    return Figure("bits_per_byte", "expected loss", plan.bits_per_byte, "bits per byte", formula=law.formula,
                  values=law.constants | {"N": plan.law_parameters, "D": fresh},
                  source=plan.law + (repeated if fresh < plan.tokens else ""),
                  low=plan.bits_per_byte_low, high=plan.bits_per_byte_high)  # fmt: skip


_PLAN_COLUMNS = [
    Column("layers", "layers", "count"),
    Column("width", "width", "count"),
    Column("parameters", "parameters", "count"),
    Column("tokens", "tokens", "tokens"),
    Column("train_seconds", "time", "seconds"),
    Column("peak_bytes", "memory", "bytes"),
    Column("bits_per_byte", "expected", "bits per byte"),
]


def _row(plan: Plan) -> tuple[float, ...]:
    shape = plan.shape
    return (
        shape.num_layers, shape.width, plan.parameters, plan.tokens, plan.train_seconds, plan.peak_bytes,
        plan.bits_per_byte,
    )  # fmt: skip


def _table(name: str, title: str, plans: list[Plan]) -> Table:
    return Table(name, title, _PLAN_COLUMNS, [_row(plan) for plan in plans])


def _binding(question: Question, plan: Plan) -> str:
    """What keeps the loss from being lower."""
    if plan.epochs > HARMLESS_EPOCHS:
        return (
            f"text binds: it is read {plan.epochs:.0f} times, and from {HARMLESS_EPOCHS:.0f} times on it is "
            "worth little to read it again; more text would lower the loss more than more time"
        )
    wider = replace(question, hardware=replace(question.hardware, memory_bytes=1 << 50))
    if wider.plan().parameters > plan.parameters:
        return (
            "memory binds: with more of it a larger model would be better (see train.recompute, train.micro_batch)"
        )
    return {
        "seconds": "time binds: the model is the best that this machine trains within it",
        "flops": "computation binds",
        "tokens": "tokens bind: a larger model would have a lower loss for the same tokens, at more computation",
        "steps": "steps bind: a larger model would have a lower loss for the same steps, at more computation",
    }[question.spendable.kind]


def _next_best(plan: Plan, others: list[Plan]) -> list[str]:
    rest = [other for other in others if other.shape != plan.shape][:1]
    return [
        next_best(
            one.shape.num_layers,
            one.shape.width,
            (one.bits_per_byte, plan.bits_per_byte),
            one.flops / plan.flops,
        )
        for one in rest
    ]


def _doubled(question: Question, plan: Plan) -> list[str]:
    twice = question.plan(2.0)
    less = plan.bits_per_byte - twice.bits_per_byte
    return [f"twice the budget would buy {less:.3f} bits per byte less"]
