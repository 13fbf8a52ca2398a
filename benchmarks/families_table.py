"""What `groundup compare` and `groundup train` gave with --json, as the table that `groundup families` shows.

groundup compare wiki-en --budget 1m --set train.threads=1 --out en --json > en.json
groundup train transformer PAIRS --budget 2m --set train.threads=1 --json > transformer.json
python benchmarks/families_table.py "wiki-en@1 minute on one core=en.json" "PAIRS@2 minutes=transformer.json"
"""

import argparse
import csv
import json
from pathlib import Path

TABLE = Path(__file__).parents[1] / "src" / "groundup" / "evaluate" / "families.csv"
_FIRST = ["text", "budget", "family"]
_OF_A_RUN = ("family", "parameters", "train_seconds", "loss", "baseline_loss", "accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", metavar="TEXT@BUDGET=FILE.json")
    options = parser.parse_args()
    rows = []
    for named in options.texts:
        about, _, file = named.rpartition("=")
        text, _, budget = about.partition("@")
        read = json.loads(Path(file).read_text("utf-8"))
        for row in read.get("families") or [{name: read[name] for name in _OF_A_RUN}]:
            rows.append({"text": text, "budget": budget, **row})
    columns = _FIRST + [name for name in dict.fromkeys(name for row in rows for name in row) if name not in _FIRST]
    with TABLE.open("w", newline="", encoding="utf-8") as table:
        writer = csv.DictWriter(table, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _short(value) for name, value in row.items()} for row in rows)
    print(" | ".join(columns))
    for row in rows:
        print(" | ".join(str(_short(row.get(name))) for name in columns))


def _short(value: object) -> object:
    """Four significant digits of what is measured; nothing for None."""
    return "" if value is None else float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
