"""The page of a run that learns from answers of its own: reward against distance, and round by round."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from groundup.files import write_atomically
from groundup.plan.figures import Answer, Chart, Figure, Series, Unit
from groundup.run import Run, read_rows
from groundup.studio.answers import render_answer

Row: TypeAlias = Mapping[str, Any]

_FILE = "rounds.html"
# What of a round is drawn, where its rows have it: a title, what the axis says, its unit, and figures by name.
_BY_ROUND: tuple[tuple[str, str, Unit, dict[str, str]], ...] = (
    ("Reward", "reward", "", {"reward": "all answers", "best_reward": "those kept"}),
    ("Distance from the reference", "nats an answer", "", {"kl": "rounds"}),
    ("Price of a nat", "beta", "", {"beta": "rounds"}),
    ("Length", "tokens an answer", "", {"length": "rounds"}),
    ("Answers that end", "share", "share", {"ended": "rounds"}),
)


def write_rounds(run: Run, outcome: Row) -> Path:
    """Write `rounds.html` into the run's folder, whether the run is finished or not, and return its path."""
    rounds, held_out = (list(read_rows(run.folder / name)) for name in ("rounds.jsonl", "heldout.jsonl"))
    page = render_answer(rounds_answer(run.folder.name, rounds, held_out, outcome))
    write_atomically(run.folder / _FILE, page)
    return run.folder / _FILE


def rounds_answer(name: str, rounds: Sequence[Row], held_out: Sequence[Row], outcome: Row) -> Answer:
    """Charts of the rows of `rounds.jsonl` and `heldout.jsonl`, and the outcome's figures if there are any yet."""
    return Answer(
        title=f"{name}: learning from answers of its own",
        figures=_figures(held_out, outcome),
        charts=[_frontier(rounds, held_out), *_by_round(rounds, held_out)],
        notes=[str(outcome["note"])] if outcome.get("note") else [],
    )


def _figures(held_out: Sequence[Row], outcome: Row) -> list[Figure]:
    if not held_out:
        return []
    start, end = held_out[0], held_out[-1]
    figures = [
        Figure("start_reward", "held-out reward at the start", start["reward"]),
        Figure("end_reward", "held-out reward at the end", end["reward"]),
        Figure("end_kl", "nats an answer from the reference", end["kl"]),
    ]
    if outcome.get("gain") is not None:
        values = {"end": end["reward"], "start": start["reward"], "deviation": start["reward_std"]}
        label, formula = "gain in standard deviations of the start", "(end - start)/deviation"
        figures.append(Figure("gain", label, outcome["gain"], "", formula, values))
    return figures


def _frontier(rounds: Sequence[Row], held_out: Sequence[Row]) -> Chart:
    with_kl = [row for row in rounds if "kl" in row]
    series = [
        Series(name, _column(rows, "kl"), _column(rows, "reward"), points)
        for name, rows, points in (("rounds", with_kl, True), ("held-out prompts", held_out, False))
        if rows
    ]
    x_label = "KL from the reference, nats an answer"
    return Chart("frontier", "Reward against distance", "lines", x_label, "reward", "", "", series)


def _by_round(rounds: Sequence[Row], held_out: Sequence[Row]) -> Iterator[Chart]:
    for title, y_label, unit, figures in _BY_ROUND:
        series = []
        for name, label in figures.items():
            rows = [row for row in rounds if name in row]
            series.append(Series(label, _column(rows, "round"), _column(rows, name)))
        first = next(iter(figures))
        measured = [row for row in held_out if first in row]
        series.append(Series("held-out prompts", _column(measured, "round"), _column(measured, first)))
        drawn = [line for line in series if line.x]
        if drawn:
            yield Chart(first, title, "lines", "round", y_label, "", unit, drawn)


def _column(rows: Sequence[Row], name: str) -> list[float]:
    return [float(row[name]) for row in rows]
