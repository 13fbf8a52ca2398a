"""Progress of `groundup tokenizer`, with rate and time left; silent where there is no terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from groundup.pipeline.bars import amount_bars
from groundup.pipeline.numbers import bytes_text


@contextmanager
def bytes_bar(console: Console, name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left; the block is given a function to be called with the bytes done since last."""
    columns = [TextColumn("{task.description}"), BarColumn(bar_width=30), DownloadColumn(), TransferSpeedColumn()]
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(name, total=total)
        yield lambda done: progress.update(task, advance=done)


class TrainingBars:
    """Two bars: the text as it is read, in bytes, and then the merges, as the trainer tells of them."""

    def __init__(self, console: Console) -> None:
        self._progress = amount_bars(console)

    @contextmanager
    def shown(self, total_bytes: int | None, vocabulary_size: int) -> Iterator[None]:
        """Show the bars while the block runs."""
        self._vocabulary_size = vocabulary_size
        self._fraction_read: float | None = None
        self._num_bytes = 0
        with self._progress:
            self._reading = self._progress.add_task("reading", total=total_bytes, amount="")
            self._merging = self._progress.add_task("merging", total=1.0, amount="", start=False)
            yield

    def read(self, num_bytes: int) -> None:
        """So many bytes more have been read."""
        self._num_bytes += num_bytes
        self._fraction_read = None
        task = self._progress.tasks[self._reading]
        rate = f", {bytes_text(task.speed)}/s" if task.speed else ""
        self._progress.update(self._reading, advance=num_bytes, amount=f"{bytes_text(self._num_bytes)}{rate}")

    def merge(self, fraction: float) -> None:
        """The trainer has come so far, 0..1; what it tells while it reads counts for nothing."""
        if self._fraction_read is None:
            self._fraction_read = min(fraction, 0.99)
            self._progress.start_task(self._merging)
        done = max(fraction - self._fraction_read, 0) / (1 - self._fraction_read)
        amount = f"{round(done * self._vocabulary_size):,} of {self._vocabulary_size:,}"
        self._progress.update(self._merging, completed=done, amount=amount)
