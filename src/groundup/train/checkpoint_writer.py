"""Checkpoints written behind the trainer's back, so that a step waits for a copy in memory only."""

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from groundup.train import checkpoints
from groundup.train.checkpoints import Abandoned, Snapshot


class CheckpointWriter:
    """Writes one checkpoint after the other on a thread of its own, into `folder`, and keeps the newest `keep`.

    A write that fails is reported by the next `raise_failure`, `wait` or `start`. Leaving the context waits for
    the write under way; after a KeyboardInterrupt that write is given up instead, and what is on disk stays.
    """

    def __init__(self, folder: Path, keep: int):
        self._folder, self._keep = folder, keep
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
        """Wait for the write under way; raises what it failed with, as `raise_failure`."""
        self._join()
        self.raise_failure()

    def raise_failure(self) -> None:
        """UserError if the last write failed (the disk was full)."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _write(self, contents: Snapshot) -> None:
        before = time.monotonic()
        try:
            checkpoints.write(self._folder, contents, self._keep, self._give_up.is_set)
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
        checkpoints.clear_unfinished(self._folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._give_up.set()
        self._join()
        if kind is None:
            self.raise_failure()
