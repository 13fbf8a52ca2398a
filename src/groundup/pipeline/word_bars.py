"""Progress of `groundup words train`, with rate, loss and time left; silent where there is no terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import TaskID

from groundup.pipeline.bars import amount_bars
from groundup.pipeline.numbers import bytes_text, human
from groundup.words.shares import Tally


class WordBars:
    """A bar for each part of the work: reading, counting what stands together (GloVe), learning."""

    def __init__(self, console: Console) -> None:
        self._progress = amount_bars(console)

    @contextmanager
    def reading(self, total_bytes: int | None) -> Iterator[Callable[[int], None]]:
        """Show bytes read; the block is given a function to be called with those read since."""
        with self._bar("reading", total_bytes) as task:
            yield lambda done: self._advance(task, done, bytes_text)

    @contextmanager
    def counting(self, total: int) -> Iterator[Callable[[int], None]]:
        """Show words of which the neighbours are counted."""
        with self._bar("counting", total) as task:
            yield lambda done: self._advance(task, done, human)

    @contextmanager
    def learning(self, total: int, done: int, unit: str) -> Iterator[Callable[[Tally], None]]:
        """Show words or records learnt, their rate and the loss of late."""
        with self._bar("learning", total, done) as task:

            def show(tally: Tally) -> None:
                speed = self._progress.tasks[task].speed
                rate = f", {human(speed)} {unit}/s" if speed else ""
                loss = f", loss {tally.loss:.4f}" if tally.loss is not None else ""
                self._progress.update(task, completed=tally.done, amount=f"{human(tally.done)} {unit}{rate}{loss}")

            yield show

    @contextmanager
    def _bar(self, name: str, total: int | None, done: int = 0) -> Iterator[TaskID]:
        with self._progress:
            yield self._progress.add_task(name, total=total, completed=done, amount="")

    def _advance(self, task: TaskID, done: int, text: Callable[[float], str]) -> None:
        self._progress.update(task, advance=done)
        state = self._progress.tasks[task]
        rate = f", {text(state.speed)}/s" if state.speed else ""
        self._progress.update(task, amount=f"{text(state.completed)}{rate}")
