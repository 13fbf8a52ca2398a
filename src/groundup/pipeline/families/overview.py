"""`groundup families`: what there is, from the first word vectors to today's decoders, and how they compare."""

import csv
from importlib import resources

from groundup.errors import UserError
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
_MEASURED = (
    Column("parameters", "Parameters", "count"),
    Column("train_seconds", "Trained", "seconds"),
    Column("bits_per_byte", "Bits per byte", "bits per byte"),
    Column("order", "Word order", "share"),
    Column("sst2", "SST-2", "share"),
    Column("agnews", "AG News", "share"),
    Column("waimai_10k", "Waimai", "share"),
)


def families_answer() -> Answer:
    """The table of families in the order of their years, and the measured ones on both languages."""
    names = sorted(FAMILIES, key=lambda name: (FAMILIES[name].year, name))
    rows = [_row(name, FAMILIES[name]) for name in names]
    tables = [Table("families", "Families", _COLUMNS, rows), *_measured()]
    return Answer(
        "Families of pretrained models",
        (),
        tables,
        notes=["train any with `groundup train RECIPE`; `groundup compare` measures them on your own text"],
    )


def _row(name: str, traits: Family) -> list[Value]:
    try:
        recipe = recipe_of(name)
    except UserError:
        recipe = ""
    learns = _LEARNS.get(traits.objective, traits.objective)
    return [name, str(traits.year), learns, traits.sees, traits.purpose, recipe]


def _measured() -> list[Table]:
    """What `groundup compare` gave, one table a text; the command is in benchmarks/RESULTS.md."""
    file = resources.files("groundup") / "evaluate" / "families.csv"
    if not file.is_file():
        return []
    records = list(csv.DictReader(file.read_text("utf-8").splitlines()))
    tables = []
    for text in dict.fromkeys(record["text"] for record in records):
        own = [record for record in records if record["text"] == text]
        columns = [column for column in _MEASURED if any(record.get(column.name) for record in own)]
        tables.append(
            Table(
                f"measured_{text.replace('-', '_')}",
                f"Measured on {text}, each {own[0]['budget']} of 2 CPU cores (groundup compare)",
                [Column("family", "Family"), *columns],
                [[record["family"], *(_number(record[column.name]) for column in columns)] for record in own],
            )
        )
    return tables


def _number(written: str) -> float | None:
    return float(written) if written else None
