"""The processes of a run: who they are, how they meet, and how one tells the others what it knows.

torchrun starts them and says in their environment who they are (docs.pytorch.org/docs/stable/elastic/run).
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

# A process may compile or write its part of a checkpoint while the others wait for it.
_TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class Processes:
    """This process among all: its rank and their number, the same on its machine, and restarts so far."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    restarts: int = 0


def from_environment() -> Processes | None:
    """What torchrun says of this process; None where it is the only one."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        return None
    return Processes(
        rank=int(os.environ["RANK"]),
        world_size=world_size,
        local_rank=int(os.environ["LOCAL_RANK"]),
        local_world_size=int(os.environ["LOCAL_WORLD_SIZE"]),
        restarts=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")),
    )


@contextmanager
def joined(processes: Processes, device: str, store: Store | None = None) -> Iterator[None]:
    """Meet the other processes, by what they write to `store` or else to torchrun's, and leave them in the end.

    On GPUs each takes the one of its local rank and sends through NCCL; what lies on the CPU goes through gloo.
    """
    backend = "gloo"
    if device.startswith("cuda"):
        torch.cuda.set_device(processes.local_rank)
        backend = "cpu:gloo,cuda:nccl"
    # Each process would tell which of the engine's collectives could be fewer.
    logging.getLogger("torch.distributed.tensor").setLevel(logging.ERROR)
    place = (-1, -1) if store is None else (processes.rank, processes.world_size)
    dist.init_process_group(backend, timeout=_TIMEOUT, store=store, rank=place[0], world_size=place[1])
    try:
        yield
    finally:
        dist.destroy_process_group()


def share(value: T) -> T:
    """The value of rank 0, in every process; the others' own is not looked at."""
    values: list[T] = [value]
    dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]


def barrier() -> None:
    """Wait until every process has come here."""
    dist.barrier()


def is_lost_connection(error: Exception) -> bool:
    """Whether an error only says that another process has ended; gloo's have no class of their own."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
