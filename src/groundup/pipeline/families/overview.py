"""`groundup families`: what there is, from the first word vectors to today's decoders, and how they compare."""

import csv
import re
from collections.abc import Sequence
from importlib import resources

from groundup.plan.figures import Answer, Column, Table, Value
from groundup.recipe import recipe_of
from groundup.shape import FAMILIES, Family

_COLUMNS = (
    Column("family", "Family"),
    Column("year", "Year"),
    Column("objective", "Learns"),
    Column("sees", "Sees"),
    Column("purpose", "Good for"),
    Column("recipe", "Recipe"),
    Column("parameters", "Parameters", "count"),
)
_LEARNS = {
    "causal": "the next token",
    "masked": "hidden tokens",
    "positions": "where permuted tokens were",
    "permuted": "tokens in any order",
    "bidirectional": "the next and the previous token",
    "translation": "a text from another",
    "denoising": "hidden spans",
    "labels": "labels",
    "word2vec": "words beside a word",
    "glove": "how often words meet",
}
_MEASURED = {
    "parameters": Column("parameters", "Parameters", "count"),
    "tokens": Column("tokens", "Read", "tokens"),
    "train_seconds": Column("train_seconds", "Trained", "seconds"),
    "bits_per_byte": Column("bits_per_byte", "Held-out text", "bits per byte"),
    "order": Column("order", "Word order", "share"),
    "EN-WS-353-ALL": Column("EN-WS-353-ALL", "WS-353 (Spearman)"),
    "accuracy": Column("accuracy", "Right answers", "share"),
    "loss": Column("loss", "Loss, nats"),
    "baseline_loss": Column("baseline_loss", "By rates alone"),
}
_NOT_FIGURES = {"text", "budget", "family"}


def families_answer() -> Answer:
    """The table of families in the order of their years, and the measured ones on both languages."""
    names = sorted(FAMILIES, key=lambda name: (FAMILIES[name].year, name))
    records = _records()
    parameters = {record["family"]: _number(record["parameters"]) for record in reversed(records)}
    rows = [[*_row(name, FAMILIES[name]), parameters.get(name)] for name in names]
    tables = [Table("families", "Families", _COLUMNS, rows), *_measured(records)]
    return Answer(
        "Families of pretrained models",
        (),
        tables,
        notes=["train any with `groundup train RECIPE`; `groundup compare` measures them on your own text"],
    )


def _row(name: str, traits: Family) -> list[Value]:
    return [name, str(traits.year), _LEARNS[traits.objective], traits.sees, traits.purpose, recipe_of(name)]


def _records() -> list[dict[str, str]]:
    """What `groundup compare` gave, a row for each text and family; the command is in benchmarks/RESULTS.md."""
    file = resources.files("groundup") / "evaluate" / "families.csv"
    return list(csv.DictReader(file.read_text("utf-8").splitlines()))


def _measured(records: Sequence[dict[str, str]]) -> list[Table]:
    """One table a text."""
    tables = []
    for text in dict.fromkeys(record["text"] for record in records):
        own = [record for record in records if record["text"] == text]
        names = [name for name in records[0] if name not in _NOT_FIGURES and any(record[name] for record in own)]
        columns = [_MEASURED.get(name, Column(name, name, "share")) for name in names]
        tables.append(
            Table(
                "measured_" + re.sub(r"\W+", "_", text).strip("_"),
                f"Measured on {text}, each {own[0]['budget']}",
                [Column("family", "Family"), *columns],
                [[record["family"], *(_number(record[column.name]) for column in columns)] for record in own],
            )
        )
    return tables


def _number(written: str) -> float | None:
    return float(written) if written else None
