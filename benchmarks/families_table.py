"""What `groundup compare --json` gave for several texts, as the table that `groundup families` shows.

groundup compare wiki-en --budget 1m --set train.threads=1 --out en --json > en.json
python benchmarks/families_table.py wiki-en=en.json wiki-zh=zh.json
"""

import argparse
import csv
import json
from pathlib import Path

TABLE = Path(__file__).parents[1] / "src" / "groundup" / "evaluate" / "families.csv"
_FIRST = ["text", "budget", "family"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", metavar="TEXT=FILE.json")
    parser.add_argument("--budget", default="1 minute on one core")
    options = parser.parse_args()
    rows = []
    for named in options.texts:
        text, _, file = named.partition("=")
        for row in json.loads(Path(file).read_text("utf-8"))["families"]:
            rows.append({"text": text, "budget": options.budget, **row})
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
