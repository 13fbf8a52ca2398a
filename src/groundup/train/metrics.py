"""Metrics: a JSON row a step, on disk as soon as it is known."""

import json
from pathlib import Path
from typing import Any, Self


class MetricsWriter:
    """Appends rows to a .jsonl file, flushed line by line so that a killed process loses none."""

    def __init__(self, file: Path):
        self._file = file.open("a", encoding="utf-8")

    def write(self, **row: Any) -> None:
        """Append one row."""
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
