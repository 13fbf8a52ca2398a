"""The page of a run that learns from answers of its own: reward against distance, and round by round."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from groundup.files import write_atomically
from groundup.plan.figures import Answer, Chart, Figure, Series
from groundup.run import Run, read_rows
from groundup.studio.answers import render_answer

_FILE = "rounds.html"
# What of a round is drawn, where its rows have it: names of figures under a title and a unit.
_BY_ROUND = (
    ("score", "Reward round by round", {"reward": "all answers", "best_reward": "those kept"}),
    ("kl", "Distance from the reference, in nats an answer", {"kl": "KL"}),
    ("beta", "Price of a nat (beta)", {"beta": "beta"}),
    ("length", "Tokens an answer", {"length": "tokens"}),
    ("ended", "Share of answers that end", {"ended": "ended"}),
)


def write_rounds(run: Run) -> Path:
    """Write `rounds.html` into the run's folder, whether the run is finished or not, and return its path."""
    rounds, held_out = (list(read_rows(run.folder / name)) for name in ("rounds.jsonl", "heldout.jsonl"))
    page = render_answer(rounds_answer(run.folder.name, rounds, held_out, run.read_json(run.outcome_file)))
    write_atomically(run.folder / _FILE, page)
    return run.folder / _FILE


def rounds_answer(
    name: str, rounds: Sequence[Mapping[str, Any]], held_out: Sequence[Mapping[str, Any]], outcome: Mapping[str, Any]
) -> Answer:
    """Charts of the rows of `rounds.jsonl` and `heldout.jsonl`, and the outcome's figures if there are any yet."""
    return Answer(
        title=f"{name}: learning from answers of its own",
        figures=_figures(held_out, outcome),
        charts=[chart for chart in (_frontier(rounds, held_out), *_by_round(rounds, held_out)) if chart.series],
        notes=[str(outcome["note"])] if outcome.get("note") else [],
    )


def _figures(held_out: Sequence[Mapping[str, Any]], outcome: Mapping[str, Any]) -> list[Figure]:
    if not held_out:
        return []
    start, end = held_out[0], held_out[-1]
    figures = [
        Figure("start_reward", "held-out reward at the start", start["reward"]),
        Figure("end_reward", "held-out reward at the end", end["reward"]),
        Figure("end_kl", "nats an answer from the reference", end["kl"]),
    ]
    if "gain" in outcome:
        formula, values = "(end - start)/std", {name: value["reward"] for name, value in _ends(start, end).items()}
        values["std"] = start["reward_std"]
        figures.append(
            Figure("gain", "gain in standard deviations of the start", outcome["gain"], "", formula, values)
        )
    return figures


def _ends(start: Mapping[str, Any], end: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {"start": start, "end": end}


def _frontier(rounds: Sequence[Mapping[str, Any]], held_out: Sequence[Mapping[str, Any]]) -> Chart:
    series = [
        Series(name, [row["kl"] for row in rows], [row["reward"] for row in rows], points=points)
        for name, rows, points in (
            ("rounds", [row for row in rounds if "kl" in row], True),
            ("held-out prompts", held_out, False),
        )
        if rows
    ]
    return Chart(
        "frontier", "Reward against distance", "lines", "KL from the reference, nats an answer", "reward", "", "", series
    )


def _by_round(rounds: Sequence[Mapping[str, Any]], held_out: Sequence[Mapping[str, Any]]) -> list[Chart]:
    charts = []
    for name, title, figures in _BY_ROUND:
        series = [
            Series(label, [row["round"] for row in rounds if figure in row], [row[figure] for row in rounds if figure in row])
            for figure, label in figures.items()
            if any(figure in row for row in rounds)
        ]
        first = next(iter(figures))
        measured = [row for row in held_out if first in row]
        if series and measured:
            series.append(Series("held-out prompts", [row["round"] for row in measured], [row[first] for row in measured]))
        unit = "share" if name == "ended" else ""
        charts.append(Chart(name, title, "lines", "round", name, "", unit, series))  # type: ignore[arg-type]
    return charts
