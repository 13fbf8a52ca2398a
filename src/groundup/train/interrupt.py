"""Ctrl-C and SIGTERM: finish the step, save, then stop. A second one stops at once."""

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

# Those that are in force: what takes long in a step asks them.
_open: list["Interrupt"] = []


class Interrupt:
    """While this context is open, the first SIGINT or SIGTERM sets `signal` instead of killing the process.

    What comes within `echo_seconds` after it counts as the same: torchrun passes on to its processes what they may
    have been sent by a batch system too.
    """

    def __init__(self, echo_seconds: float = 0.0) -> None:
        self.signal: int | None = None
        self._echo_seconds, self._noted = echo_seconds, 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        _open.append(self)
        # Python lets only the main thread handle signals; elsewhere the caller keeps its own handling.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()
        _open.remove(self)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal is None:
            self.signal, self._noted = number, time.monotonic()
        elif time.monotonic() - self._noted > self._echo_seconds:
            self._give_back()
            os.kill(os.getpid(), number)

    def _give_back(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def is_noted() -> bool:
    """Whether a signal waits for the step to be finished: what takes long in a step may look here."""
    return any(interrupt.signal is not None for interrupt in _open)
