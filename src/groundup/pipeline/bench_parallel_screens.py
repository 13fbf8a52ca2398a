"""What `groundup bench parallel` shows in the terminal."""

from typing import Any

from rich.markup import escape
from rich.table import Table

from groundup.pipeline.bench_screens import say_subject
from groundup.pipeline.bench_subject import Subject
from groundup.pipeline.display import Display
from groundup.pipeline.numbers import bytes_text, human
from groundup.studio.quantities import quantity

Row = dict[str, Any]


def say_parallel(subject: Subject, nproc: int, load_average: float, display: Display) -> None:
    """The machine, the model and the step; how it is divided."""
    say_subject(subject, load_average, display)
    display.say(f"on {nproc} processes of {subject.trial.threads} threads each, over gloo")


def show_parallel(outcome: Row, display: Display) -> None:
    """A line for each layout; then what each sends, by kind of collective."""
    good = [row for row in outcome["layouts"] if "error" not in row]
    display.console.print(_layouts(outcome, good))
    if good:
        display.console.print(_sent(good))
    for row in outcome["layouts"]:
        if "error" in row:
            display.warn(f"{row['layout']}: {row['error']}")
    display.say(
        "Sent and kept: of the process that differs most from theory. Idle and exposed: mean of all.", "dim"
    )
    display.say(f"page  {outcome['page']}")


def _layouts(outcome: Row, rows: list[Row]) -> Table:
    names = ("tokens/s", "speed", "computing", "exposed", "idle", "bubble", "(theory)", "sent", "off", "kept off")
    table = _table("layout", names)
    table.add_row("one process", human(outcome["one_process_tokens_per_second"]), "1.00", *("–",) * 8)
    for row in rows:
        worst = max(row["processes"], key=lambda process: abs(process["sent_error"]))
        table.add_row(
            escape(row["layout"]),
            human(row["tokens_per_second"]),
            f"{row['speedup']:.2f}",
            *(quantity(row[f"{name}_share"], "percent") for name in ("compute", "exposed", "idle")),
            *(quantity(row.get(name), "percent") for name in ("bubble_share", "bubble_theory")),
            bytes_text(worst["sent_bytes"]),
            quantity(round(row["sent_error"], 3), "signed_percent"),
            quantity(round(row["kept_error"], 3), "signed_percent"),
        )
    return table


def _sent(rows: list[Row]) -> Table:
    table = _table("layout", ("collectives", "sent", "theory", "what"))
    table.columns[-1].justify = "left"
    for row in rows:
        name = row["layout"]
        for sent in row["processes"][0]["sent"]:
            theory = sent["theory_bytes"]
            along = f"{sent['count']} {sent['kind']} ({sent['axis']})"
            what = f"{sent['purpose']}: {sent['formula']}" if sent["formula"] else sent["purpose"]
            shown = "–" if theory is None else bytes_text(theory)
            table.add_row(escape(name), along, bytes_text(sent["bytes"]), shown, escape(what))
            name = ""
    return table


def _table(first: str, names: tuple[str, ...]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column(first)
    for name in names:
        table.add_column(name, justify="right")
    return table
