"""The dated tables of facts that ship with the package: devices, prices, regions, known models."""

import csv
from importlib.resources import files


def read_table(name: str, package: str = "groundup.plan") -> list[dict[str, str]]:
    """The rows of a packaged CSV file by column; lines that begin with # are remarks."""
    text = files(package).joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if line and not line.startswith("#")))
