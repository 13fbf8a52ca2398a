"""What progress bars have in common."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


def amount_bars(console: Console) -> Progress:
    """Bars whose tasks say in their field `amount` how much is done; silent where there is no terminal."""
    columns = [TextColumn("{task.description:8}"), BarColumn(bar_width=30), TextColumn("{task.fields[amount]}")]
    return Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    )
