"""`groundup report`."""

from pathlib import Path
from typing import Annotated

import typer


def report(run: Annotated[Path, typer.Argument(help="A run's folder.")]) -> int:
    """Write report.html, one self-contained page, and print its name."""
    from groundup.run import Run
    from groundup.studio.report import write_report

    print(write_report(Run.open(run)))
    return 0
