"""What a person sees while a run goes on: lines, progress bars, the plan; the same lines go to the log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from groundup.pipeline.numbers import human, seconds_text


class Display:
    """Writes to a console; figures and samples are escaped, so that text cannot pass for markup."""

    def __init__(self, console: Console, log: Callable[[str], None] | None = None):
        self.console = console
        self.log = log or (lambda _: None)

    def say(self, line: str, style: str | None = None) -> None:
        """One line."""
        self.console.print(escape(line), style=style, highlight=False, soft_wrap=True)
        self.log(line)

    def warn(self, line: str) -> None:
        """One line that a person should not miss."""
        self.console.print(f"warning: {escape(line)}", style="yellow", highlight=False, soft_wrap=True)
        self.log(f"warning: {line}")

    def table(self, title: str, rows: list[tuple[str, str]]) -> None:
        """Names and values in two columns."""
        table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
        for name, value in rows:
            table.add_row(escape(name), escape(value))
            self.log(f"{title}: {name}: {value}")
        self.console.print(table)

    def sample(self, prompt: str, text: str) -> None:
        """What the model wrote: the prompt marked, on one line."""
        shown = Text("    ").append(_one_line(prompt), style="bold").append(_one_line(text), style="dim")
        self.console.print(shown, soft_wrap=False, overflow="ellipsis", no_wrap=True)

    @contextmanager
    def stage(self, name: str, total: float | None) -> Iterator[Callable[[float], None]]:
        """A bar for one stage of the preparation; the block is given a function of the amount done."""
        before = time.monotonic()
        columns = [
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        ]
        with Progress(
            *columns, console=self.console, transient=True, disable=not self.console.is_terminal
        ) as progress:
            task = progress.add_task(name, total=total)
            yield lambda done: progress.update(task, completed=done)
        self.say(f"{name}: {seconds_text(time.monotonic() - before)}", style="dim")

    @contextmanager
    def training(self) -> Iterator["TrainingBar"]:
        """The bar of the training loop; on something that is no terminal, only the lines between are written."""
        columns: list[ProgressColumn] = [
            TextColumn("training"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            _Figures(),
            TimeElapsedColumn(),
            TextColumn("left {task.fields[left]}"),
        ]
        with Progress(
            *columns, console=self.console, transient=True, disable=not self.console.is_terminal
        ) as progress:
            task = progress.add_task("training", total=1.0, figures="", left="?")
            yield TrainingBar(progress, task)


class TrainingBar:
    """Updates the bar's figures."""

    def __init__(self, progress: Progress, task: TaskID):
        self._progress, self._task = progress, task

    def update(
        self, *, fraction: float, loss: float, bits_per_byte: float, rate: float, utilisation: float, left: float
    ) -> None:
        """Show the state after a step: loss in nats, tokens/s, utilisation as a share, seconds left."""
        figures = f"loss {loss:.3f}  {bits_per_byte:.3f} bits/byte  {human(rate)} tok/s  {utilisation:.0%} of peak"
        self.show(fraction, figures, left)

    def show(self, fraction: float, figures: str, left: float) -> None:
        """Show how far it is, what is measured, and the seconds left."""
        self._progress.update(self._task, completed=fraction, figures=figures, left=seconds_text(left))


class _Figures(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(str(task.fields["figures"]))


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())
