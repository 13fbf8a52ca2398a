"""Records of data sets: what each line, row or entry of a source holds, and where it stands."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from groundup.data import demo, hub
from groundup.data.formats import JSON_LINES, PARQUET, json_records, open_text, parquet_records, suffixes_of
from groundup.data.sources import Item, resolve
from groundup.errors import UserError

Record = dict[str, Any]
_JSON = ".json"
_TEXT = ".txt"


def read_records(
    sources: Sequence[str], example: str, text_field: str | None = None
) -> Iterator[tuple[str, Record]]:
    """Where it stands ("file, line 3") and what it holds, of each record of the sources.

    Args:
        sources: files of JSON lines (as they are or compressed), .json with an array, or .parquet; folders and
            patterns of such files; `hf:NAME[:SPLIT]`, where NAME may be a local folder; `demo:NAME`.
        example: a record such as they shall be, for errors.
        text_field: lines of .txt files are records with this field; None: such files are none.

    Raises UserError for what is missing, damaged, not JSON, or no file of these kinds (one found in a folder is
    passed over).
    """
    for source in sources:
        if source.startswith(demo.PREFIX):
            yield from demo.records(source)
            continue
        items = resolve(source)
        kinds = [_kind(item, text_field) for item in items]
        if not any(kinds):
            raise UserError(
                f"{source} holds no examples; give a file such as data.jsonl, with lines like {example}"
            )
        for item, kind in zip(items, kinds, strict=True):
            if kind == hub.PREFIX:
                yield from hub.hub_records(item.source)
            elif item.path is not None and kind:
                yield from _of_file(item.path, kind, example, text_field)
            elif item.named:
                raise UserError(f"{item.path}: not a file of examples; give .jsonl, .json or .parquet")


def _kind(item: Item, text_field: str | None) -> str:
    """How an item is read; empty if it is not."""
    if item.path is None:
        return hub.PREFIX if item.source.startswith(hub.PREFIX) else ""
    kind = suffixes_of(item.path)[0]
    known = {*JSON_LINES, _JSON, PARQUET} | ({_TEXT} if text_field else set())
    return kind if kind in known else ""


def _of_file(path: Path, kind: str, example: str, text_field: str | None) -> Iterator[tuple[str, Record]]:
    if kind == PARQUET:
        for number, record in enumerate(parquet_records(path), start=1):
            yield f"{path}, row {number}", record
        return
    with open_text(path) as file:
        if kind == _TEXT:
            assert text_field is not None
            for number, line in enumerate(file, start=1):
                if text := line.decode("utf-8", "replace").strip():
                    yield f"{path}, line {number}", {text_field: text}
        elif kind == _JSON and file.peek(1)[:1] in b"[ \t\r\n":
            yield from _entries(file.read(), path, example)
        else:
            yield from json_records(file, str(path), example=example)


def _entries(data: bytes, path: Path, example: str) -> Iterator[tuple[str, Record]]:
    """Those of an array."""
    try:
        entries = json.loads(data.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); mend the file") from error
    if not isinstance(entries, list):
        raise UserError(f"{path}: not an array of examples; give [{example}, ...], or JSON lines as .jsonl")
    for number, record in enumerate(entries, start=1):
        where = f"{path}, entry {number}"
        if not isinstance(record, dict):
            raise UserError(f"{where}: not a JSON object such as {example}; mend or remove it")
        yield where, record
