"""`groundup bench --memory`: the memory of a recipe's training step over time, beside the planner's formula."""

from pathlib import Path
from typing import Any

from rich.table import Table

from groundup.files import write_atomically, write_json
from groundup.pipeline.bench_process import Trial
from groundup.pipeline.bench_subject import Subject
from groundup.pipeline.display import Display
from groundup.pipeline.numbers import bytes_text
from groundup.plan.memory import step_memory, train_bytes
from groundup.studio.memory import render_memory
from groundup.train.memory import CATEGORIES, PHASES, Timeline, record_steps

PAGE, SERIES = "memory.html", "memory.json"


def memory_timeline(subject: Subject, folder: Path, display: Display) -> dict[str, Any]:
    """Record the first and the second step of the subject, show the figures and write them into `folder`.

    Writes `memory.html`, and `memory.json` with the bytes by category after every operator; returns the figures
    without those series.
    """
    with display.stage("recording memory", None):
        first, later = record(subject.trial)
    figures = compare(subject.trial, first, later)
    steps = [timeline.as_json() for timeline in (first, later)]
    write_json(folder / SERIES, figures | {"steps": steps})
    write_atomically(folder / PAGE, render_memory(subject.as_json(), figures | {"steps": steps}))
    figures |= {"page": str(folder / PAGE), "series": str(folder / SERIES)}
    show_memory(figures, display)
    return figures


def record(trial: Trial) -> list[Timeline]:
    """The time lines of the first two steps of a trial; not compiled."""
    return record_steps(
        trial.shape, trial.settings, precision=trial.precision, batch_size=trial.batch_size, device=trial.device
    )


def compare(trial: Trial, first: Timeline, later: Timeline) -> dict[str, Any]:
    """Peaks of all tensors, of each category and of each phase, in bytes: by the formula, and measured."""
    given = (trial.shape, trial.micro_batch, trial.precision, trial.settings, trial.batch_size)
    planned = step_memory(*given)
    greatest, phases = planned.greatest._asdict(), planned.moments
    first_peaks, later_peaks = first.peaks(), later.peaks()
    return {
        "peak_bytes": later.peak,
        "first_peak_bytes": first.peak,
        "predicted_peak_bytes": planned.peak,
        "predicted_resident_bytes": train_bytes(*given),
        "categories": {
            name: _row(greatest[name], first.greatest(name), later.greatest(name)) for name in CATEGORIES
        },
        "phases": {
            name: _row(phases[name].total, first_peaks[name]["total"], later_peaks[name]["total"])
            for name in PHASES
        },
    }


def _row(predicted: int, first: int, later: int) -> dict[str, Any]:
    ratio = later / predicted if predicted else None
    return {"predicted_bytes": predicted, "first_bytes": first, "later_bytes": later, "ratio": ratio}


def show_memory(figures: dict[str, Any], display: Display) -> None:
    """A table of categories and phases."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("memory of tensors")
    for name in ("formula", "first step", "later step", "later / formula"):
        table.add_column(name, justify="right")
    predicted, first, later = (
        figures[name] for name in ("predicted_peak_bytes", "first_peak_bytes", "peak_bytes")
    )
    rows = {"at the peak": _row(predicted, first, later)}
    for name, row in (rows | figures["categories"] | figures["phases"]).items():
        cells = (bytes_text(row[f"{column}_bytes"]) for column in ("predicted", "first", "later"))
        table.add_row(name, *cells, f"{row['ratio']:.2f}" if row["ratio"] else "–")
    display.console.print(table)
    resident = bytes_text(figures["predicted_resident_bytes"])
    display.say(f"The formula expects {resident} for the whole process.")
    display.say(f"page      {figures['page']}")
