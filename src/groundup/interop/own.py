"""The format of families that nobody else knows: the shape as it is, and our own names of tensors."""

from collections.abc import Mapping
from typing import Any

from groundup.interop.format import Format
from groundup.shape import Shape

OWN_MODEL_TYPE = "groundup"


def own_format(family: str) -> Format:
    """The format of `family`; `transformers` cannot read it, `groundup.load` can."""
    return Format(
        model_type=OWN_MODEL_TYPE,
        family=family,
        to_config=_to_config,
        from_config=_from_config,
        to_tensors=_as_they_are,
        from_tensors=_as_they_are,
    )


def _to_config(shape: Shape, special: Mapping[str, int]) -> dict[str, Any]:
    return {
        "model_type": OWN_MODEL_TYPE,
        "architectures": [shape.family],
        "vocab_size": shape.vocabulary_size,
        "special_tokens": dict(special),
        "shape": shape.model_dump(),
    }


def _from_config(config: dict[str, Any]) -> Shape:
    return Shape(**config["shape"])


def _as_they_are(_shape: Shape, tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}
