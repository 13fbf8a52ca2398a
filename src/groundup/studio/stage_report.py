"""The report of a stage behind pretraining: what came of it, and how it came about, step by step."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from groundup.plan.figures import Answer, Chart, Column, Figure, Series, Table, Unit
from groundup.run import Run, read_rows
from groundup.studio.answers import render_answer
from groundup.studio.rounds import rounds_answer

Row: TypeAlias = Mapping[str, Any]

# Of the outcome, what is shown: its name there, in words, and its unit.
_FIGURES: tuple[tuple[str, str, Unit], ...] = (
    ("loss_before", "held-out loss at the start", ""),
    ("loss", "held-out loss at the end", ""),
    ("accuracy", "held-out examples that are judged right", "share"),
    ("trained_parameters", "parameters that learnt", "count"),
    ("parameters", "of all parameters", "count"),
    ("steps", "steps", "count"),
    ("train_seconds", "time of training", "seconds"),
    ("peak_bytes", "largest memory of the process", "bytes"),
)
# Of the steps, what is drawn where their rows have it: a title, what the axis says, and the columns by name.
_CHARTS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("Loss", "loss", {"loss": "steps", "val_loss": "held-out examples"}),
    ("Judged right", "share", {"accuracy": "steps", "val_accuracy": "held-out examples"}),
    ("Rewards", "reward", {"reward_chosen": "chosen", "reward_rejected": "rejected"}),
    ("Ratio of probabilities", "share clipped", {"clip_fraction": "steps"}),
    ("Entropy", "nats a token", {"entropy": "steps"}),
    ("Gradient", "norm before clipping", {"grad_norm": "steps"}),
    ("Learning rate", "rate", {"lr": "steps"}),
)


def render_stage(run: Run) -> str:
    """The page, whether the run is finished or not."""
    rows, outcome = list(read_rows(run.metrics_file)), run.read_json(run.outcome_file)
    rounds, held_out = (list(read_rows(run.folder / name)) for name in ("rounds.jsonl", "heldout.jsonl"))
    of_rounds = rounds_answer(run.folder.name, rounds, held_out, outcome)
    figures = [
        Figure(name, label, outcome[name], unit) for name, label, unit in _FIGURES if outcome.get(name) is not None
    ]
    charts = [*(of_rounds.charts if rounds else ()), *_charts(rows), *_calibration(outcome)]
    title = f"{run.folder.name}: {run.recipe.stage} of {getattr(run.recipe, run.recipe.stage).model}"
    notes = list(of_rounds.notes) if run.finished else ["The run is not finished."]
    return render_answer(Answer(title, [*of_rounds.figures, *figures], list(_scores(outcome)), charts, notes))


def _charts(rows: Sequence[Row]) -> Iterator[Chart]:
    for title, label, columns in _CHARTS:
        series = []
        for column, name in columns.items():
            drawn = [row for row in rows if column in row]
            if drawn:
                series.append(Series(name, [row["step"] for row in drawn], [float(row[column]) for row in drawn]))
        if series:
            yield Chart(next(iter(columns)), title, "lines", "step", label, "", "", series)


def _scores(outcome: Row) -> Iterator[Table]:
    """Of a reward model, how often it is right where it is so and so sure."""
    if "scores" in outcome:
        columns = [
            Column("confidence", "how sure", "share"),
            Column("accuracy", "how often right", "share"),
            Column("pairs", "pairs", "count"),
        ]
        bins = [[part[column.name] for column in columns] for part in outcome["scores"]["bins"]]
        yield Table("calibration", "Calibration on held-out pairs", columns, bins)


def _calibration(outcome: Row) -> Iterator[Chart]:
    if "scores" in outcome:
        bins = outcome["scores"]["bins"]
        sure = [part["confidence"] for part in bins]
        series = [
            Series("held-out pairs", sure, [part["accuracy"] for part in bins]),
            Series("as sure as right", [0.5, 1.0], [0.5, 1.0]),
        ]
        label = "share of pairs that were right"
        yield Chart("calibration", "Calibration", "lines", "how sure it was", label, "share", "share", series)
