"""How one family stands in a Hugging Face folder. Nothing here needs torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from groundup.errors import UserError
from groundup.shape import Shape


@dataclass(frozen=True)
class Format:
    """A family's `config.json` and the names of its tensors, there and back.

    Attributes:
        model_type: as in `config.json`; `family` is ours.
        family: its name in `groundup.shape.FAMILIES`.
        to_config: from the shape and the ids of special tokens (`<|endoftext|>` and the family's own).
        from_config: the shape; raises KeyError or UserError for what no family of ours computes.
        to_tensors, from_tensors: state dicts, of ours to theirs and of theirs to ours.
        also: other values of `model_type` that it reads.
    """

    model_type: str
    family: str
    to_config: Callable[[Shape, Mapping[str, int]], dict[str, Any]]
    from_config: Callable[[dict[str, Any]], Shape]
    to_tensors: Callable[[Shape, dict[str, Any]], dict[str, Any]]
    from_tensors: Callable[[Shape, dict[str, Any]], dict[str, Any]]
    also: tuple[str, ...] = ()


def require(config: Mapping[str, Any], key: str, known: Sequence[Any], default: Any) -> None:
    """UserError where a `config.json` has another value than those that we compute; absent it has the default."""
    if config.get(key, default) not in known:
        raise UserError(
            f"config.json has {key}={config[key]!r}, which groundup does not know; it reads {known[0]!r}"
        )
