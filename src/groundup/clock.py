"""Where the time of a build goes."""

import time


class Clock:
    """Seconds since the build began, and in which stages they were spent."""

    def __init__(self, started: float | None = None):
        self._started = time.time() if started is None else started
        self._last = self._started
        self.stages: dict[str, float] = {}

    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.time() - self._started

    def lap(self, stage: str) -> None:
        """Book the time since the last lap under `stage`."""
        now = time.time()
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self._last
        self._last = now
