"""Arithmetic only, never torch: hardware, FLOPs, memory, the loss to expect, and the choice among models.

The room is also the function `groundup.plan(...)` of the public API: see `groundup.plan.answer.plan`.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from groundup.plan.choose import Plan


class _CallableRoom(ModuleType):
    """A module that can be called: `groundup.plan` names both this room and what one asks of it."""

    def __call__(self, *arguments: Any, **options: Any) -> "Plan":
        from groundup.plan.answer import plan

        return plan(*arguments, **options)


sys.modules[__name__].__class__ = _CallableRoom
