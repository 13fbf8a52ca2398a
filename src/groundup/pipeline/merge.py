"""`groundup merge`: one model whose weights are the average of several models' weights.

Of the last checkpoints of a run that is Polyak's average; of models that were tuned from one start, a model soup
(Wortsman et al. 2022, arXiv:2203.05482). Models that share no start lie far apart, and their average is no model.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundup import __version__
from groundup.errors import UserError
from groundup.model import folder as model_folder
from groundup.pipeline.card import table
from groundup.pipeline.export import require_room
from groundup.pipeline.stored_models import StoredModel, open_model, require_one_tokenizer
from groundup.shape import Shape

# What decides no weight.
_MAY_DIFFER = {"dropout"}


def merge(sources: Sequence[Path], out: Path, weights: str | None = None) -> dict[str, Any]:
    """Write the average of models of one shape and tokenizer to the folder `out`; what was merged.

    Each source is a model folder, a run, or RUN/checkpoints/step-N. `weights` are as many numbers, as "0.7,0.3",
    which are divided by their sum; by default all count alike. Raises UserError where there is no average.
    """
    shares = _shares(weights, len(sources))
    require_room(out)
    first = open_model(sources[0])
    sums = _scaled(first, shares[0])
    for source, share in zip(sources[1:], shares[1:], strict=True):
        other = open_model(source)
        _refuse_difference(first, other)
        _add(sums, _scaled(other, share), source)
    # Sums are rounded once, as they go back into the type of the weights.
    first.model.load_state_dict(sums)
    merged = [{"model": str(source), "weight": share} for source, share in zip(sources, shares, strict=True)]
    model_folder.save(out, first.model, first.tokenizer, _card(first.model.shape, merged))
    parameters = sum(parameter.numel() for parameter in first.model.parameters())
    return {"model": str(out), "merged": merged, "parameters": parameters}


def _shares(written: str | None, count: int) -> list[float]:
    """Of each model, 1 in all."""
    if count < 2:
        raise UserError("one model is its own average; name two models or more to merge")
    if written is None:
        return [1 / count] * count
    try:
        weights = [float(part) for part in written.split(",")]
    except ValueError:
        raise UserError(f"--weights {written}: write a number for each model, as in 0.7,0.3") from None
    if len(weights) != count:
        raise UserError(f"--weights {written} are {len(weights)} for {count} models; write one for each")
    total = sum(weights)
    if not math.isfinite(total) or min(weights) < 0 or total <= 0:
        raise UserError(f"--weights {written}: an average has no negative weights, and one at least above 0")
    return [weight / total for weight in weights]


def _refuse_difference(first: StoredModel, other: StoredModel) -> None:
    for name in Shape.model_fields:
        one, another = getattr(first.model.shape, name), getattr(other.model.shape, name)
        if name not in _MAY_DIFFER and one != another:
            raise UserError(
                f"{other.source} has {name}={another}, but {first.source} {name}={one}; only models of one shape "
                "can be averaged"
            )
    if first.tokenizer is not None and other.tokenizer is not None:
        require_one_tokenizer(first.tokenizer, other.tokenizer, other.source)


def _scaled(stored: StoredModel, share: float) -> dict[str, Tensor]:
    """The weights in float64, times a share; whole numbers, such as tables of spelling, as they are."""
    state = stored.model.state_dict()
    return {name: value.double() * share if value.is_floating_point() else value for name, value in state.items()}


def _add(sums: dict[str, Tensor], others: dict[str, Tensor], source: Path) -> None:
    for name, value in others.items():
        if value.is_floating_point():
            sums[name] += value
        elif not torch.equal(sums[name], value):
            raise UserError(f"{source} has another table {name} than the first model; only equal ones go together")


def _card(shape: Shape, merged: list[dict[str, Any]]) -> str:
    rows = {str(part["model"]): f"{part['weight']:.4g}" for part in merged}
    return f"""---
tags:
- groundup
- merge
---

# The average of {len(merged)} models

A model of the family {shape.family} ({shape.num_layers} layers, width {shape.width}). Each of its weights is the
average of those of the models below (Wortsman et al. 2022, arXiv:2203.05482), made with groundup {__version__}.

## Merged
{table(rows)}
"""
