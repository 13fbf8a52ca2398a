"""`groundup merge`: an adapter written into its model's weights, or the average of several models' weights.

Of the last checkpoints of a run that is Polyak's average; of models that were tuned from one start, a model soup
(Wortsman et al. 2022, arXiv:2203.05482). Models that share no start lie far apart, and their average is no model.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundup import __version__
from groundup.errors import UserError
from groundup.model import folder as model_folder
from groundup.model.adapter_folder import adapter_base, is_adapter
from groundup.model.base import Model
from groundup.pipeline.card import table
from groundup.pipeline.export import require_room
from groundup.pipeline.stored_models import StoredModel, open_model, require_one_tokenizer
from groundup.shape import Shape

# What decides no weight.
_MAY_DIFFER = {"dropout"}


def merge(sources: Sequence[Path], out: Path, weights: str | None = None) -> dict[str, Any]:
    """Write the average of models of one shape and tokenizer to the folder `out`; what was merged.

    Each source is a model folder, a run, or RUN/checkpoints/step-N. `weights` are as many numbers, as "0.7,0.3",
    which are divided by their sum; by default all count alike. One source alone must be a folder of adapters: the
    model that they belong to is written with the adapters in its weights. Raises UserError where there is nothing
    to merge.
    """
    adapter = next((folder for folder in (sources[0], sources[0] / "model") if is_adapter(folder)), None)
    if len(sources) == 1 and adapter is not None:
        return _merge_adapter(sources[0], adapter, out)
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
    return {"model": str(out), "merged": merged, "parameters": _size(first.model)}


def _merge_adapter(source: Path, folder: Path, out: Path) -> dict[str, Any]:
    """Write the whole model that the adapters in `folder` make; it samples and ends as theirs does."""
    require_room(out)
    base = adapter_base(folder)
    loaded = model_folder.load(folder)
    generation = folder / "generation_config.json"
    sampling = json.loads(generation.read_text("utf-8")) if generation.is_file() else None
    model_folder.save(
        out, loaded.model, loaded.tokenizer, _adapter_card(loaded.model.shape, source, base), sampling
    )
    merged = [{"model": str(source), "weight": 1.0}]
    return {"model": str(out), "base": str(base), "merged": merged, "parameters": _size(loaded.model)}


def _size(model: Model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _shares(written: str | None, count: int) -> list[float]:
    """Of each model, 1 in all."""
    if count < 2:
        raise UserError("one whole model is its own average; name an adapter's folder, or two models or more")
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


def _adapter_card(shape: Shape, adapter: Path, base: Path) -> str:
    return f"""---
tags:
- groundup
- merge
---

# A model with its adapters in its weights

A model of the family {shape.family} ({shape.num_layers} layers, width {shape.width}), whose low-rank adapters
(Hu et al. 2021, arXiv:2106.09685) were added to its matrices with groundup {__version__}.

## Merged
{table({"model": str(base), "adapters": str(adapter)})}
"""


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
