"""Checkpoints written behind the trainer's back, so that a step waits for a copy in memory only."""

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import torch.distributed as dist

from groundup.parallel.agree import in_group
from groundup.train import checkpoints, sharded_checkpoints
from groundup.train.checkpoints import Abandoned, Snapshot


class CheckpointWriter:
    """Writes one checkpoint after the other on a thread of its own, into `folder`, and keeps the newest `keep`.

    A write that fails is reported by the next `raise_failure`, `wait` or `start`. Leaving the context waits for
    the write under way; after a KeyboardInterrupt that write is given up instead, and what is on disk stays.

    Many processes write together: each makes its writer, starts and waits at the same steps as the others. They
    hear of a failure at different times: `raise_failure` leaves it to `wait` and `start`, so that none goes alone.
    """

    def __init__(self, folder: Path, keep: int):
        self._folder, self._keep = folder, keep
        # Their messages must not mix with those of training, which goes on meanwhile.
        self._group = dist.new_group(backend="gloo") if in_group() and dist.get_world_size() > 1 else None
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self._give_up = threading.Event()
        self.seconds = 0.0
        """How long the last write took."""

    @property
    def is_writing(self) -> bool:
        """Whether a write is under way."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, contents: Snapshot) -> None:
        """Begin to write a checkpoint, when the one before is written."""
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(contents,), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait for the write under way; UserError if it failed (the disk was full)."""
        self._join()
        self._raise()

    def raise_failure(self) -> None:
        """What `wait` would raise, but without waiting."""
        if self._group is None:
            self._raise()

    def _raise(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _write(self, contents: Snapshot) -> None:
        before = time.monotonic()
        try:
            if self._group is None:
                checkpoints.write(self._folder, contents, self._keep, self._give_up.is_set)
            else:
                sharded_checkpoints.write(self._folder, contents, self._keep, self._give_up.is_set, self._group)
        except Abandoned:
            pass
        except Exception as error:
            self._failure = error
        self.seconds = time.monotonic() - before

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        if self._group is None or dist.get_rank() == 0:
            checkpoints.clear_unfinished(self._folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._give_up.set()
        self._join()
        if kind is None:
            self._raise()
