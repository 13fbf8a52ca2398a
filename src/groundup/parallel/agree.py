"""What every process did, told to all: none goes on where another could not."""

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


def in_group() -> bool:
    """Whether this process is one of a group of torch.distributed."""
    return dist.is_available() and dist.is_initialized()


def agree(action: Callable[[], T], group: dist.ProcessGroup | None = None) -> list[T]:
    """What `action` gives on each process of the group, in the order of their ranks; all of them must call it.

    Without a group it is this process alone. An Exception on any of them is raised on all of them.
    """
    if not in_group():
        return [action()]
    mine: T | Exception
    try:
        mine = action()
    except Exception as error:
        mine = error
    everyones: list[T | Exception | None] = [None] * dist.get_world_size(group)
    dist.all_gather_object(everyones, mine, group)
    answers: list[T] = []
    for answer in everyones:
        if isinstance(answer, Exception):
            raise answer
        answers.append(answer)  # type: ignore[arg-type]
    return answers
