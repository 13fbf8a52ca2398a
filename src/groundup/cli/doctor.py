"""`groundup doctor`."""

from typing import Annotated

import typer


def doctor(
    subject: Annotated[
        str | None, typer.Argument(metavar="[RUN|RECIPE|SOURCE]", help="What to check. Default: this machine.")
    ] = None,
) -> int:
    """Check a machine, recipe, run or data before time is spent."""
    from groundup.pipeline.doctor import examine

    findings = examine(subject)
    for finding in findings:
        print(f"{'ok  ' if finding.good else 'FIX '} {finding.sentence}")
    return 0 if all(finding.good for finding in findings) else 2
