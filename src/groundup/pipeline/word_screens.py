"""What `groundup words` shows in the terminal: how training went, and what evaluation found."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from groundup.pipeline.numbers import human, seconds_text

_MISSING = "–"


def show_training(figures: dict[str, Any], console: Console) -> None:
    """A short table of what `words.train` gives."""
    unit = "records" if figures["model"] == "glove" else "words"
    rows = [
        ("model", f"{figures['model']}, {figures['dimension']} dimensions"),
        ("vocabulary", f"{figures['vocabulary_size']:,} words, {figures['tokens']:,} times in the text"),
        ("loss", _MISSING if figures["loss"] is None else f"{figures['loss']:.4f} at the end"),
        ("time", f"{seconds_text(figures['seconds'])}, {human(figures[f'{unit}_per_second'])} {unit}/s"),
        ("written to", figures["out"]),
    ]
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in rows:
        table.add_row(name, escape(value))
    console.print(table, soft_wrap=True)


def show_evaluation(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """A row for each task, and for each section of analogies."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("task", "measure", "value", "used", "unknown words"):
        table.add_column(heading, justify="left" if heading in ("task", "measure") else "right")
    for row in rows:
        if row["task"] == "similarity":
            table.add_row(escape(row["name"]), "Spearman", _number(row["spearman"]), *_counts(row, "pairs"))
            continue
        for name, section in row["sections"].items():
            table.add_row(
                f"  {escape(name)}", "accuracy", _percent(section["accuracy"]), f"{section['questions']:,}"
            )
        table.add_row(escape(row["name"]), "accuracy", _percent(row["accuracy"]), *_counts(row, "questions"))
    console.print(table, soft_wrap=True)


def _counts(row: dict[str, Any], used: str) -> tuple[str, str]:
    return f"{row[used]:,}", f"{row['unknown']:,}"


def _number(value: float | None) -> str:
    return _MISSING if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return _MISSING if value is None else f"{value:.1%}"
