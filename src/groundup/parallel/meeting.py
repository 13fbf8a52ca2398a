"""How processes that torchrun started find each other anew, each time that it starts them.

torchrun's store outlives the processes: after a restart the addresses of dead ones are still in it, and whoever
comes first would take them for those of the living (torch 2.13, where agents share their store). So every process
writes down a word of its own and waits until the first process has answered that very word with the name under
which all meet this time. The first one answers when what the others need is ready, however long that takes.
"""

import time
from datetime import timedelta
from uuid import uuid4

from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from groundup.parallel.processes import Processes

_LOOK_EVERY_SECONDS = 0.1
_TIMEOUT = timedelta(minutes=5)


def call_together(processes: Processes) -> Store:
    """For the first process: tell all others to come, and where; a store that has nothing of earlier processes."""
    store, name = _store(processes), uuid4().hex
    waiting = set(range(1, processes.world_size))
    while waiting:
        for rank in tuple(waiting):
            if store.check([f"{name}/{rank}"]):
                waiting.discard(rank)
            elif store.check([f"word/{rank}"]):
                store.set(f"answer/{rank}", f"{store.get(f'word/{rank}').decode()} {name}")
        time.sleep(_LOOK_EVERY_SECONDS if waiting else 0.0)
    return PrefixStore(name, store)


def wait_for_call(processes: Processes) -> Store:
    """For every other process: wait until the first one calls; the same store."""
    store, word = _store(processes), uuid4().hex
    store.set(f"word/{processes.rank}", word)
    answered, name = "", ""
    while answered != word:
        time.sleep(_LOOK_EVERY_SECONDS)
        if store.check([f"answer/{processes.rank}"]):
            answered, name = store.get(f"answer/{processes.rank}").decode().split()
    store.set(f"{name}/{processes.rank}", "here")
    return PrefixStore(name, store)


def _store(processes: Processes) -> Store:
    """What torchrun gives its processes to write to and read from before they have met."""
    store, _, _ = next(rendezvous("env://", processes.rank, processes.world_size, timeout=_TIMEOUT))
    return PrefixStore("groundup", store)
