"""`groundup families`: each family with the recipe that trains it, and what was measured."""

import json
import subprocess
import sys

import pytest

from groundup.cli.main import main
from groundup.recipe import load
from groundup.shape import FAMILIES


def test_the_table_has_every_family_and_its_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["families", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    rows = {row["family"]: row for row in answer["families"]}
    assert set(rows) == set(FAMILIES)
    assert all(load(row["recipe"]).model.family == name for name, row in rows.items())
    years = [int(row["year"]) for row in answer["families"]]
    assert years == sorted(years) and years[0] > 1990
    measured = [row for name, table in answer.items() if name.startswith("measured_") for row in table]
    assert {row["family"] for row in measured} == set(FAMILIES)
    assert all(row["parameters"] > 0 for row in measured)


def test_it_needs_no_torch() -> None:
    code = "import sys; from groundup.cli.main import main; main(['families']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0
