"""What a budget buys on many devices: model, tokens, layout, time, money, energy and the loss to expect."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from groundup.errors import UserError
from groundup.plan.answer import BUDGET_FACTORS, HARMLESS_EPOCHS, beside, bytes_per_token_of
from groundup.plan.budget import Budget
from groundup.plan.cluster.choose import MOST_BATCH_TOKENS, ClusterChooser, ClusterPlan, shapes_for
from groundup.plan.cluster.devices import Cluster
from groundup.plan.cluster.memory_figures import peak_figure
from groundup.plan.cluster.states import STATE_RECIPES
from groundup.plan.energy import PUE, co2_figure, energy_kwh
from groundup.plan.figures import Answer, Chart, Column, Figure, Series, Table, Value
from groundup.plan.flops import train_flops_per_token
from groundup.plan.model_figures import epochs_figures, flops_figure, next_best, shape_figures, tokens_figure
from groundup.plan.money import cost, price
from groundup.plan.parameters import non_embedding
from groundup.plan.scaling.batch import step_law_lr
from groundup.plan.scaling.fitted import FittedLaw, find_law
from groundup.plan.scaling.published import DEFAULT
from groundup.recipe import Recipe
from groundup.shape import Shape

VOCABULARY, _CONTEXT = 32768, 4096
# Of each parameter, where the recipe does not name a precision: what Megatron and nanotron keep.
_STATES = {"fp32": "fp32", "bf16-weights": "bf16", "auto": "bf16-main-grads", "bf16": "bf16-main-grads"}


@dataclass(frozen=True)
class ClusterQuestion:
    """What was asked; `text_bytes` and `shape` are None where they are left open."""

    recipe: Recipe
    budget: Budget
    cluster: Cluster
    text_bytes: float | None = None
    shape: Shape | None = None
    law: str | None = None
    usd_per_device_hour: float | None = None
    region: str = "world"

    @property
    def shapes(self) -> list[Shape]:
        """The models among which to choose."""
        if self.shape:
            return [self.shape]
        model = self.recipe.model
        vocabulary = self.recipe.tokenizer.vocabulary_size or VOCABULARY
        shapes = shapes_for(model, vocabulary, model.context or _CONTEXT)
        if not shapes:
            raise UserError(
                f"model.width={model.width} is too narrow for a cluster; leave it open, or plan for 'this'"
            )
        return shapes


def cluster_answer(question: ClusterQuestion) -> Answer:
    """The answer for a cluster; UserError where nothing fits the devices or the budget."""
    rate = price(question.cluster.device, question.usd_per_device_hour)
    shapes = question.shapes
    bytes_per_token = bytes_per_token_of(shapes[0].vocabulary_size)
    chooser = ClusterChooser(
        budget=question.budget,
        cluster=question.cluster,
        states=STATE_RECIPES[_STATES.get(question.recipe.train.precision, "bf16-main-grads")],
        law=find_law(question.law or "besiroglu"),
        usd_per_hour=question.cluster.count * rate.typical,
        unique_tokens=question.text_bytes / bytes_per_token if question.text_bytes else None,
        batch_size=question.recipe.train.batch_size,
    )
    plans = chooser.ranked(shapes)
    best = plans[0]
    if question.budget.kind in {"tokens", "steps"} and not question.shape:
        best = _compute_optimal(plans, chooser.law)
    others = beside(best, plans, question.budget)
    front = _front(chooser, shapes if best is plans[0] else [best.shape])
    return Answer(
        title=f"Plan for {question.cluster.count} x {question.cluster.device.label}",
        figures=[*_model(best, chooser), *_layout(best), *_cost(best, question)],
        tables=[
            _table("alternatives", "Other models", others, chooser),
            _table("front", "What less and more would buy", front, chooser),
        ],
        charts=[
            Chart(
                name="front",
                title="What less and more would buy",
                kind="lines",
                x_label="cost",
                y_label="expected loss",
                x_unit="usd",
                y_unit=chooser.law.law.unit,
                series=[Series("best model", [_usd(one, chooser) for one in front], [one.loss for one in front])],
                log_x=True,
            )
        ],
        notes=[
            *_binding(best, chooser),
            *_next_best(best, others),
            f"the loss: {chooser.law.law.origin}",
        ],
    )


def _compute_optimal(plans: list[ClusterPlan], law: FittedLaw) -> ClusterPlan:
    """Of plans with the same tokens, the one whose computation could not be spent better on another size."""

    def is_best(plan: ClusterPlan) -> bool:
        others = (law.law.loss(one.law_parameters, plan.flops / (one.flops / one.tokens)) for one in plans)
        return law.law.loss(plan.law_parameters, plan.tokens) <= min(others)

    return next(filter(is_best, plans), plans[-1])


def _front(chooser: ClusterChooser, shapes: list[Shape]) -> list[ClusterPlan]:
    plans = []
    for factor in BUDGET_FACTORS:
        try:
            plans.append(chooser.times(factor).ranked(shapes)[0])
        except UserError:
            continue  # too little for any model
    return plans


def _usd(plan: ClusterPlan, chooser: ClusterChooser) -> float:
    return plan.seconds / 3600.0 * chooser.usd_per_hour


def _model(plan: ClusterPlan, chooser: ClusterChooser) -> list[Figure]:
    shape, time = plan.shape, plan.candidate.time
    return [
        Figure("family", "family", shape.family),
        Figure("parameters", "parameters", plan.parameters, "count", source="counted from the shape"),
        *shape_figures(shape),
        tokens_figure(shape, plan.steps, plan.candidate.layout.batch),
        *epochs_figures(plan.tokens, chooser.unique_tokens),
        Figure("steps", "steps", plan.steps, "steps"),
        *_batch(plan, chooser),
        Figure("lr", "learning rate of AdamW", step_law_lr(non_embedding(shape), plan.tokens),
               formula="1.79 N^-0.713 D^0.307", values={"N": non_embedding(shape), "D": plan.tokens},
               source="the Step Law: Li et al. 2025, arXiv:2503.04715; N without embeddings"),
        flops_figure(shape, plan.tokens),
        Figure("tokens_per_second", "throughput", time.tokens_per_second, "tokens/s", formula="B T / t",
               values={"B": plan.candidate.layout.batch, "T": shape.context, "t": time.seconds},
               source="t: groundup.plan.cluster.time; groundup plan layout shows its parts"),
        Figure("mfu", "share of the peak", time.mfu, "share", formula="f r / (n P)",
               values={"f": train_flops_per_token(shape), "r": time.tokens_per_second, "n": chooser.cluster.count,
                       "P": time.peak_flops / chooser.cluster.count},
               source="Chowdhery et al. 2022, arXiv:2204.02311"),
        Figure("train_seconds", "training time", plan.seconds, "seconds", formula="D / r",
               values={"D": plan.tokens, "r": time.tokens_per_second}),
        _loss(plan, chooser),
    ]  # fmt: skip


def _batch(plan: ClusterPlan, chooser: ClusterChooser) -> list[Figure]:
    """The batch, and what its size costs in tokens."""
    batch, context, critical = plan.candidate.layout.batch, plan.shape.context, plan.critical_batch
    grown = Figure("batch_size", "sequences a step", batch, "count", formula="B 2^k",
                   values={"B": plan.rule_batch, "k": round(math.log2(batch / plan.rule_batch))},
                   source="doubled while the devices gain more from it than the tokens lose in worth")  # fmt: skip
    given = Figure("batch_size", "sequences a step", batch, "count", source="train.batch_size")
    return [
        Figure("rule_batch_size", "sequences by the batch rule", plan.rule_batch, "count",
               formula="o 2^max(0, round(log2(min(m, 0.4 D^0.571) / (T o))))",
               values={"o": chooser.odd_part, "m": MOST_BATCH_TOKENS, "D": plan.batch_rule_tokens, "T": context},
               source="exponent of Li et al. 2025, arXiv:2503.04715; factor from benchmarks/LOG.md; o: the odd "
                      "part of the number of devices; D: what the budget comes to before rounding"),
        given if chooser.batch_size else grown,
        Figure("critical_batch_tokens", "critical batch", critical, "tokens", formula="2.1e8 / L^(1 / 0.21)",
               values={"L": DEFAULT.fresh(plan.parameters, plan.batch_rule_tokens)},
               source="Kaplan et al. 2020, arXiv:2001.08361, equation 5.3; L: by Besiroglu et al. 2024"),
        Figure("worth_tokens", "tokens in batches of the rule", plan.worth_tokens, "tokens",
               formula="D min(1, (1 + B T / c) / (1 + b T / c))",
               values={"D": plan.tokens, "B": plan.rule_batch, "b": batch, "T": context, "c": critical},
               source="what would teach as much: McCandlish et al. 2018, arXiv:1812.06162, equation 2.11"),
    ]  # fmt: skip


def _loss(plan: ClusterPlan, chooser: ClusterChooser) -> Figure:
    law, unique = chooser.law.law, chooser.unique_tokens
    constants: dict[str, Value] = dict(zip(("E", "A", "alpha", "B", "beta"), law.constants, strict=True))
    formula, source = law.formula, law.origin
    values: dict[str, Value] = {"N": plan.law_parameters, "D": plan.worth_tokens, **constants}
    if unique and plan.worth_tokens > unique:
        worth = law.repetition.worth(plan.law_parameters, plan.worth_tokens, unique, law.parameters_for(unique))
        formula = f"({law.formula}) (1 + o)"
        values |= {"N": worth.parameters, "D": worth.tokens, "o": worth.overfitting}
        source += "; N, D: what would serve as well with text that is read once; o: overfitting"
    return Figure("loss", "expected loss", plan.loss, law.unit, formula=formula, values=values, source=source,
                  low=plan.loss_low, high=plan.loss_high)  # fmt: skip


def _layout(plan: ClusterPlan) -> list[Figure]:
    layout = plan.candidate.layout
    named: dict[str, Any] = {
        "data": ("data parallel", layout.data),
        "tensor": ("tensor parallel", layout.tensor),
        "context_parallel": ("context parallel", layout.context),
        "pipeline": ("pipeline stages", layout.pipeline),
        "zero": ("ZeRO stage", layout.zero),
        "micro_batch": ("micro-batch", layout.micro_batch),
        "accumulation": ("accumulation", layout.accumulation),
    }
    figures = [Figure(name, label, value, "count") for name, (label, value) in named.items()]
    return [
        *figures,
        Figure("recompute", "recomputation", layout.recompute),
        peak_figure(plan.candidate.memory),
    ]


def _cost(plan: ClusterPlan, question: ClusterQuestion) -> list[Figure]:
    cluster, hours = question.cluster, plan.seconds / 3600.0
    rate = price(cluster.device, question.usd_per_device_hour)
    bill = cost(cluster, plan.seconds, question.usd_per_device_hour)
    kwh = energy_kwh(cluster, plan.seconds)
    source = f"{rate.source}, {rate.date}"
    return [
        Figure("usd_per_device_hour", "price of a device", rate.typical, "usd/h", source=source,
               low=rate.low, high=rate.high),
        Figure("usd", "cost", bill.typical, "usd", formula="n h p",
               values={"n": cluster.count, "h": hours, "p": rate.typical}, source=source,
               low=bill.low, high=bill.high),
        Figure("energy_kwh", "energy", kwh, "kwh", formula="n W t PUE / 3.6e6",
               values={"n": cluster.count, "W": cluster.device.watts, "t": plan.seconds, "PUE": PUE},
               source="groundup.plan.energy"),
        co2_figure(kwh, question.region),
    ]  # fmt: skip


def _table(name: str, title: str, plans: Sequence[ClusterPlan], chooser: ClusterChooser) -> Table:
    columns = [
        Column("layers", "layers", "count"),
        Column("width", "width", "count"),
        Column("parameters", "parameters", "count"),
        Column("tokens", "tokens", "tokens"),
        Column("seconds", "time", "seconds"),
        Column("usd", "cost", "usd"),
        Column("mfu", "of the peak", "share"),
        Column("peak_bytes", "memory", "bytes"),
        Column("loss", "expected", chooser.law.law.unit),
    ]
    return Table(name, title, columns, [_row(plan, chooser) for plan in plans])


def _row(plan: ClusterPlan, chooser: ClusterChooser) -> tuple[float, ...]:
    return (
        plan.shape.num_layers, plan.shape.width, plan.parameters, plan.tokens, plan.seconds, _usd(plan, chooser),
        plan.candidate.time.mfu, plan.candidate.memory.peak, plan.loss,
    )  # fmt: skip


def _next_best(best: ClusterPlan, others: Sequence[ClusterPlan]) -> list[str]:
    rest = [one for one in others if one.shape != best.shape][:1]
    return [
        next_best(one.shape.num_layers, one.shape.width, (one.loss, best.loss), one.flops / best.flops)
        for one in rest
    ]


def _binding(plan: ClusterPlan, chooser: ClusterChooser) -> list[str]:
    """What keeps the loss from being lower."""
    notes = []
    if chooser.unique_tokens and plan.tokens > HARMLESS_EPOCHS * chooser.unique_tokens:
        notes.append(
            f"text binds: it is read {plan.tokens / chooser.unique_tokens:.0f} times, and beyond about "
            f"{HARMLESS_EPOCHS:.0f} times reading again is worth little"
        )
    binds = {
        "seconds": "time binds", "usd": "money binds", "flops": "computation binds", "tokens": "tokens bind",
        "steps": "steps bind",
    }[chooser.budget.kind]  # fmt: skip
    twice = chooser.times(2.0).plan(plan.shape)
    return [
        *notes,
        f"{binds}: twice as much would buy {plan.loss - twice.loss:.3f} {chooser.law.law.unit} less",
    ]
