"""What `groundup plan layout` is asked: a model, a cluster, a global batch, and what is fixed beforehand."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from groundup.errors import UserError
from groundup.plan.budget import parse_budget
from groundup.plan.cluster.devices import Cluster, parse_hardware
from groundup.plan.cluster.search import SIZES, WAYS, Candidate, search
from groundup.plan.cluster.states import StateRecipe, state_recipe
from groundup.plan.models import parse_shape
from groundup.shape import Shape

# A batch in tokens may be rounded by so much to a number of sequences that divides well.
_ROUNDING = 0.05


@dataclass(frozen=True)
class LayoutQuestion:
    """`batch` is in sequences; `wanted_tokens` is what was asked for where it was given in tokens."""

    shape: Shape
    cluster: Cluster
    batch: int
    states: StateRecipe
    fixed: Mapping[str, Any] = field(default_factory=dict)
    limit: int = 10
    usd_per_device_hour: float | None = None
    wanted_tokens: float | None = None

    def search(self, limit: int, **changes: Any) -> list[Candidate]:
        """The fastest layouts, with other devices or another batch where `changes` say so."""
        asked = replace(self, **changes)
        return search(
            asked.shape,
            asked.cluster,
            asked.batch,
            asked.states,
            fixed=asked.fixed,
            limit=limit,
            usd_per_device_hour=asked.usd_per_device_hour,
        )


def parse_question(
    params: str | None,
    shape: str | None,
    context: int | None,
    hardware: str,
    global_batch: str,
    states: str,
    factors: Sequence[str],
    limit: int,
    usd_per_device_hour: float | None,
) -> LayoutQuestion:
    """The question in the words of the command line; UserError where one of them is not understood."""
    model, cluster = parse_shape(params, shape, context), parse_hardware(hardware)
    batch, tokens = parse_batch(global_batch, model.context, cluster.count)
    fixed = parse_factors(factors)
    return LayoutQuestion(model, cluster, batch, state_recipe(states), fixed, limit, usd_per_device_hour, tokens)


def parse_batch(text: str, context: int, devices: int) -> tuple[int, float | None]:
    """`1024` sequences as they are, or `4Mtok` rounded by `nearest_batch`, with the tokens that were wanted."""
    if text.strip().isdecimal() and int(text) > 0:
        return int(text), None
    if not re.fullmatch(r"\s*[0-9.]+([eE]\+?[0-9]+)?\s*[kMBT]?tok(ens)?\s*", text):
        raise UserError(f"--global-batch '{text}' is not understood; write 4Mtok, or sequences such as 1024")
    tokens = parse_budget(text).amount
    if tokens < context:
        raise UserError(f"--global-batch {text} is less than one sequence of {context} tokens; give more")
    return nearest_batch(tokens, context, devices), tokens


def nearest_batch(tokens: float, context: int, devices: int) -> int:
    """Sequences for about so many tokens a step: within 5 %, the number that halves most often.

    It is a multiple of the devices' odd part, so that it divides over them: 4Mtok of 4,096 are 1,024 sequences.
    """
    wanted = tokens / context
    unit = devices // (devices & -devices)
    best = max(1, round(wanted / unit)) * unit
    while abs((rounded := round(wanted / unit) * unit) - wanted) <= _ROUNDING * wanted:
        best, unit = rounded, 2 * unit
    return best


def parse_factors(written: Sequence[str]) -> dict[str, Any]:
    """`["tensor=8", "recompute=full"]` as fields of a layout; `search` checks that they are possible."""
    fixed: dict[str, Any] = {}
    for factor in written:
        name, equals, value = (part.strip() for part in factor.partition("="))
        if not equals:
            raise UserError(f"--fix {factor}: write it as factor=value, for example --fix tensor=8")
        fixed[name] = _value(name, value)
    return fixed


def _value(name: str, value: str) -> Any:
    if name in WAYS:
        return {str(way).lower(): way for way in WAYS[name]}.get(value.lower(), value)
    if name in SIZES and not re.fullmatch("[0-9]{1,9}", value):
        raise UserError(f"--fix {name}={value}: write a whole number of at least 1")
    return int(value) if name in SIZES else value
