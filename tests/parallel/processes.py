"""Real processes that meet over gloo, as those that torchrun starts."""

import os
from collections.abc import Callable
from multiprocessing import set_forkserver_preload
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

# The processes are forked off one that has imported these: each import would take seconds.
_PRELOADED = [
    "torch",
    "torch.distributed.checkpoint",
    "torch.distributed.fsdp",
    "torch.distributed.tensor.parallel",
    "torch.distributed.pipelining",
    "groundup.train.trainer",
]


def run(n: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call `function(rank, *arguments)` in n processes of one group; what it returned in each, by rank.

    Raises what one of them raised (`ProcessRaisedException` with its traceback), or that it was killed. `function`
    belongs to a module and not to another function, or the processes could not find it.
    """
    set_forkserver_preload(_PRELOADED)
    with TemporaryDirectory() as folder:
        start_processes(_work, (n, Path(folder), function, arguments), nprocs=n, start_method="forkserver")
        return [torch.load(Path(folder) / str(rank), weights_only=False) for rank in range(n)]


def _work(rank: int, n: int, folder: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(n),
        LOCAL_WORLD_SIZE=str(n),
        GLOO_SOCKET_IFNAME="lo",
    )
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=n)
    try:
        torch.save(function(rank, *arguments), folder / str(rank))
    finally:
        dist.destroy_process_group()
