"""Published models by name, and the shape that a user asks for: by name, by size, or by numbers."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import ValidationError

from groundup.errors import UserError, nearest
from groundup.plan.parameters import total
from groundup.plan.tables import read_table
from groundup.shape import Shape, family

# What `--shape` calls the fields of a shape.
KEYS = {
    "family": "family",
    "layers": "num_layers",
    "width": "width",
    "heads": "num_heads",
    "kv": "num_kv_heads",
    "head": "head_width",
    "ff": "feedforward_width",
    "vocab": "vocabulary_size",
    "context": "context",
    "tied": "tied",
}
_CONTEXT = 2048
_VOCABULARY = 32_000
# A published model this near in size is taken as it is: "7B" has 6.7 billion parameters.
_NEAR_ENOUGH = 0.05
# Feed-forward widths are multiples of this, so that they divide over a tensor group.
_FEEDFORWARD_UNIT = 64
_HEADS_UNIT = 8
_MULTIPLES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class NamedModel:
    """A published model: its shape and where that is from. A size in parameters starts from a `standard` one."""

    name: str
    shape: Shape
    source: str
    standard: bool


@cache
def _models() -> dict[str, NamedModel]:
    models: dict[str, NamedModel] = {}
    for row in read_table("models.csv"):
        fields = {field: row[key] for key, field in KEYS.items()}
        fields |= {"rope_theta": row["theta"], "norm_epsilon": row["epsilon"]}
        shape = Shape.model_validate(fields)
        model = NamedModel(row["name"], shape, row["source"], bool(row["standard"]))
        models |= dict.fromkeys((row["name"], *row["aliases"].split()), model)
    return models


# Names and other names that `--shape` and `groundup plan ledger` know.
NAMED: Mapping[str, NamedModel] = _models()


def named_shape(name: str) -> Shape | None:
    """The shape of the published model called `name`, None where there is none."""
    model = NAMED.get(name.strip().lower())
    return model.shape if model else None


def parse_shape(
    params: str | None, shape: str | None, context: int | None = None, vocabulary: int | None = None
) -> Shape:
    """The shape that `--params 7B` or `--shape NAME` or `--shape layers=32,width=4096,...` asks for.

    `context` and `vocabulary` override those of a named shape. A size in parameters takes the standard shape
    nearest to it, scaled where it is more than 5 % off: `shape_origin` says which. UserError otherwise.
    """
    if (params is None) == (shape is None):
        raise UserError(
            "say which model, once: --params 7B, --shape NAME, or --shape layers=32,width=4096,heads=32"
        )
    if params is not None:
        return _sized(params, vocabulary, context)[0]
    return _written(shape or "", {"context": context, "vocabulary_size": vocabulary})


def shape_origin(params: str | None, shape: str | None, vocabulary: int | None = None) -> str:
    """Which shape `parse_shape` takes: `llama2-7b`, `llama3-8b scaled to 10B`, or the numbers as written."""
    return _sized(params, vocabulary, None)[1] if params is not None else (shape or "").strip()


def parse_size(text: str) -> float:
    """A number of parameters: `7B`, `350M`, `1.5T`, `124439808`; UserError otherwise."""
    match = re.fullmatch(r"([0-9]*\.?[0-9]+(?:[eE]\+?[0-9]{1,2})?)\s*([kKmMbBtT]?)", text.strip())
    amount = float(match[1]) * _MULTIPLES[match[2].lower()] if match else 0.0
    if not 1e3 <= amount <= 1e15:
        raise UserError(f"--params '{text}' is not understood; write a number of parameters such as 350M or 7B")
    return amount


def _sized(params: str, vocabulary: int | None, context: int | None) -> tuple[Shape, str]:
    size = parse_size(params)
    changes = {"vocabulary_size": vocabulary, "context": context}
    standard = {model.name: _changed(model.shape, changes) for model in NAMED.values() if model.standard}
    name = min(standard, key=lambda one: abs(math.log(total(standard[one]) / size)))
    shape = standard[name]
    if abs(total(shape) / size - 1) <= _NEAR_ENOUGH:
        return shape, name
    scaled = _scaled(shape, size)
    if abs(total(scaled) / size - 1) > _NEAR_ENOUGH:
        raise UserError(
            f"no shape like {name} has {params} parameters with a vocabulary of {shape.vocabulary_size}; "
            "give the numbers with --shape layers=..,width=..,heads=..,vocab=.."
        )
    return scaled, f"{name} scaled to {params}"


def _scaled(shape: Shape, size: float) -> Shape:
    """A shape of about `size` parameters that is as deep for its width, and as wide within, as `shape`."""
    aspect, ratio = shape.width / shape.num_layers, shape.feedforward_width / shape.width

    def strangeness(one: Shape) -> float:
        off = abs(math.log(total(one) / size))
        depth, inside = one.width / one.num_layers / aspect, one.feedforward_width / one.width / ratio
        return max(0.0, off - 0.01) * 100 + abs(math.log(depth)) + abs(math.log(inside))

    return min(_candidates(shape, size), key=strangeness)


def _candidates(shape: Shape, size: float) -> Iterator[Shape]:
    """Shapes near the cube root of the growth in depth and width, whose feed-forward width fills up to `size`."""
    growth = (size / total(shape)) ** (1 / 3)
    multihead = shape.num_kv_heads == shape.num_heads
    step = min(_HEADS_UNIT, shape.num_heads) if multihead else shape.num_kv_heads
    layers = range(max(1, int(0.7 * growth * shape.num_layers)), math.ceil(1.4 * growth * shape.num_layers) + 1)
    for num_layers in layers:
        steps = shape.num_heads * num_layers / shape.num_layers / step  # of a width as usual for this depth
        for heads in {step * max(1, round_(steps)) for round_ in (math.floor, math.ceil)}:
            plain = _changed(
                shape,
                {
                    "num_layers": num_layers,
                    "width": heads * shape.head_width,
                    "num_heads": heads,
                    "num_kv_heads": heads if multihead else shape.num_kv_heads,
                    "feedforward_width": _FEEDFORWARD_UNIT,
                },
            )
            units = (size - total(plain)) / (3 * num_layers * plain.width * _FEEDFORWARD_UNIT)
            yield _changed(plain, {"feedforward_width": _FEEDFORWARD_UNIT * (1 + max(0, round(units)))})


def _written(text: str, overrides: Mapping[str, int | None]) -> Shape:
    """`NAME`, `NAME,context=4096` or `layers=32,width=4096,heads=32,...`."""
    name, *items = [item.strip() for item in text.split(",")]
    if "=" in name:
        return _from_numbers(_fields([name, *items]) | _given(overrides))
    shape = named_shape(name)
    if shape is None:
        known = {model.name for model in NAMED.values()}
        raise UserError(
            f"unknown model '{name}'{nearest(name.lower(), known)}; or write layers=32,width=4096,heads=32"
        )
    return _changed(shape, _fields(items) | _given(overrides))


def _fields(items: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for item in items:
        key, _, value = (part.strip() for part in item.partition("="))
        if key not in KEYS:
            raise UserError(f"--shape has no '{key}'; it knows {', '.join(KEYS)}")
        if KEYS[key] in fields:
            raise UserError(f"--shape gives {key} twice")
        fields[KEYS[key]] = _value(key, value)
    return fields


def _value(key: str, value: str) -> str | int | bool:
    if key == "family":
        return value
    if key == "tied":
        if value.lower() not in _BOOLEANS:
            raise UserError(f"--shape has tied={value}; write tied=true or tied=false")
        return _BOOLEANS[value.lower()]
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", value):
        raise UserError(f"--shape has {key}={value or 'nothing'}; write a whole number of at least 1")
    return int(value)


def _from_numbers(fields: dict[str, Any]) -> Shape:
    """A shape from what is given, with its family's habits for the rest."""
    missing = [key for key in ("layers", "width", "heads") if KEYS[key] not in fields]
    if missing:
        raise UserError(f"--shape lacks {', '.join(missing)}; it knows {', '.join(KEYS)}")
    name = fields.setdefault("family", "llama")
    gated = family(name).feedforward == "swiglu"
    width, heads = fields["width"], fields["num_heads"]
    if "head_width" not in fields and width % heads:
        raise UserError(f"--shape has width={width}, no multiple of heads={heads}; give head=.. too")
    # 8/3 of the width, gated, has the parameters of 4 times, plain (Shazeer 2020, arXiv:2002.05202).
    habits = {
        "num_kv_heads": heads,
        "head_width": width // heads,
        "feedforward_width": 256 * math.ceil(8 * width / 3 / 256) if gated else 4 * width,
        "vocabulary_size": _VOCABULARY if gated else 50_257,
        "context": _CONTEXT,
        "tied": not gated,
    }
    return _checked(habits | fields)


def _changed(shape: Shape, changes: Mapping[str, Any]) -> Shape:
    """The shape with these fields replaced where they are not None; checked again."""
    return _checked(shape.model_dump() | _given(changes))


def _checked(fields: dict[str, Any]) -> Shape:
    try:
        return Shape(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = first["loc"][0]
        raise UserError(f"the shape's {field}={first['input']} cannot be: {first['msg'].lower()}") from None


def _given(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in changes.items() if value is not None}
