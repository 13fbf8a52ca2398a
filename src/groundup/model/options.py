"""The numbers that only one family has: `model.options` of a recipe, checked against the family's own class."""

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from groundup.errors import UserError, nearest
from groundup.shape import Shape


class Options(BaseModel):
    """To be inherited by a family's options, each a field with a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


AnyOptions = TypeVar("AnyOptions", bound=Options)


def read_options(shape: Shape, kind: type[AnyOptions]) -> AnyOptions:
    """`shape.options` as the family's class; UserError for an unknown name, with the nearest, or a bad value."""
    try:
        return kind.model_validate(shape.options)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = nearest(name, kind.model_fields)
            raise UserError(f"{shape.family} has no model.options.{name}{known}") from None
        raise UserError(f"model.options.{name}={first['input']!r}: {first['msg']}") from None
