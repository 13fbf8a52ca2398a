"""The plan of a run whose recipe gives the shape: how many steps the budget buys, by the measured time of one.

For families that are no decoders there is no law of their loss, and so no search among shapes.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from groundup.errors import UserError
from groundup.plan.budget import Budget
from groundup.plan.hardware import Precision
from groundup.recipe import Recipe
from groundup.shape import Shape, family

_DEFAULT_LR, DEFAULT_BATCH = 1e-3, 32
_LEAST_STEPS = 20


@dataclass(frozen=True)
class GivenPlan:
    """What will be trained. Times in seconds; `tokens` and `row_tokens` count positions that the model reads."""

    shape: Shape
    parameters: int
    precision: Precision
    batch_size: int
    micro_batch: int
    lr: float
    steps: int
    row_tokens: int
    train_seconds: float
    step_seconds: float
    step_peak_bytes: int

    @property
    def flops(self) -> float:
        """6 a parameter and token (Kaplan et al. 2020, arXiv:2001.08361); lookups count as products."""
        return 6.0 * self.parameters * self.tokens

    @property
    def tokens(self) -> int:
        """What is read in the whole run."""
        return self.steps * self.batch_size * self.row_tokens

    def as_json(self) -> dict[str, Any]:
        """Plain values for `plan.json`."""
        return {**asdict(self), "shape": self.shape.model_dump(), "tokens": self.tokens, "flops": self.flops}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The plan in a `plan.json`, whose other keys are passed over."""
        own = {item.name: values[item.name] for item in fields(cls)}
        return cls(**own | {"shape": Shape(**values["shape"])})

    def resolve(self, recipe: Recipe) -> Recipe:
        """The recipe with every field filled in that the plan decides."""
        resolved = recipe.model_copy(deep=True)
        for name in type(resolved.model).model_fields:
            setattr(resolved.model, name, getattr(self.shape, name))
        resolved.tokenizer.vocabulary_size = max(self.shape.vocabulary_size, 257)
        train = resolved.train
        train.batch_size, train.micro_batch, train.lr = self.batch_size, self.micro_batch, self.lr
        train.precision, train.compile = self.precision, "off"
        return resolved


def given_shape(recipe: Recipe, vocabulary_size: int) -> Shape:
    """The recipe's shape; UserError where it leaves depth, width or context open."""
    model = recipe.model
    missing = [name for name in ("num_layers", "width", "context") if getattr(model, name) is None]
    if missing:
        raise UserError(
            f"model.{missing[0]} is not set, and for the family {model.family} the planner does not choose it; "
            f"give --set model.{missing[0]}=N, or start from the recipe '{model.family}'"
        )
    assert model.num_layers and model.width and model.context
    heads = model.num_heads or max(1, model.width // 64)
    if model.width % heads:
        raise UserError(
            f"model.width={model.width} is not a multiple of model.num_heads={heads}; change one of them"
        )
    return Shape(
        family=model.family,
        num_layers=model.num_layers,
        width=model.width,
        num_heads=heads,
        num_kv_heads=model.num_kv_heads or heads,
        head_width=model.head_width or max(2, model.width // heads),
        feedforward_width=model.feedforward_width or 4 * model.width,
        vocabulary_size=vocabulary_size,
        context=model.context,
        tied=model.tied,
        norm_epsilon=family(model.family).norm_epsilon,
        dropout=model.dropout,
        options=model.options,
    )


def given_plan(
    recipe: Recipe,
    budget: Budget,
    shape: Shape,
    *,
    parameters: int,
    precision: Precision,
    row_tokens: int,
    step_seconds: float,
    step_peak_bytes: int,
) -> GivenPlan:
    """The steps that `budget` (seconds left, FLOPs, tokens or steps) buys; UserError where they are too few."""
    batch_size = recipe.train.batch_size or DEFAULT_BATCH
    step_tokens = batch_size * row_tokens
    if budget.kind == "seconds":
        steps = budget.amount / step_seconds
    elif budget.kind == "flops":
        steps = budget.amount / (6.0 * parameters * step_tokens)
    else:
        steps = budget.amount if budget.kind == "steps" else budget.amount / step_tokens
    if steps < (1 if budget.kind == "steps" else _LEAST_STEPS):
        raise UserError(
            f"{budget.amount:.3g} {budget.kind} are too little for {_LEAST_STEPS} steps of {batch_size} rows, "
            f"which take {step_seconds:.2g} s each; give a larger --budget, or a smaller model or train.batch_size"
        )
    return GivenPlan(
        shape=shape,
        parameters=parameters,
        precision=precision,
        batch_size=batch_size,
        micro_batch=recipe.train.micro_batch or batch_size,
        lr=recipe.train.lr or recipe.train.lr_scale * _DEFAULT_LR,
        steps=int(steps),
        row_tokens=row_tokens,
        train_seconds=int(steps) * step_seconds,
        step_seconds=step_seconds,
        step_peak_bytes=step_peak_bytes,
    )
