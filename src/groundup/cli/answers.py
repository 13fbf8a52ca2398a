"""How every verb of the planner answers: its common options, and what they do."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from groundup.plan.figures import Answer

JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the answer as one JSON object.")]
ExplainOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--explain",
        metavar="NAME",
        help="Show a figure's formula, the values put in and the source; may be repeated; all shows each.",
    ),
]
HtmlOption: TypeAlias = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write the answer as one page with charts.")
]


def give(answer: "Answer", *, as_json: bool, explain: Sequence[str] | None, html: Path | None) -> int:
    """Show `answer` in the terminal, or as JSON on standard output; write the page where one is asked for.

    Raises:
        UserError: `explain` names a figure that the answer does not have, or `html` is a folder.
    """
    from rich.console import Console

    from groundup.pipeline.answers import explained, plain, show_answer, show_explanations, write_page
    from groundup.pipeline.display import Display

    figures = explained(answer, explain or [])
    if html is not None:
        write_page(answer, html)  # what can fail comes first: an error is the only JSON object then
    display = Display(Console(file=sys.stderr if as_json else sys.stdout))
    if as_json:
        print(json.dumps(plain(answer), ensure_ascii=False, allow_nan=False))
    elif not figures:
        show_answer(answer, display)
    show_explanations(figures, display)
    if html is not None:
        display.say(f"page  {html}")
    return 0
