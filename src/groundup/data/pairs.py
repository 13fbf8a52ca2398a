"""Pairs of texts, a source and its target, and the rows of tokens that a model learns to translate from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from groundup.data.formats import JSON_LINES, field_of, json_records, open_text, suffixes_of
from groundup.data.permutation import endless, permuted
from groundup.data.sources import resolve
from groundup.errors import UserError
from groundup.tokenizer import Tokenizer

Pair = tuple[str, str]
_Fields = tuple[str | None, str | None]

SEPARATOR = "<|sep|>"
# What stands in a row behind its end.
PADDING = -1
_TSV = ".tsv"
_CHOOSE = (
    "choose with --set data.source_field=NAME --set data.target_field=NAME, or with --source-field and "
    "--target-field of `groundup translate`"
)
_EXAMPLE = "such as pairs.jsonl with two fields a line, or pairs.tsv with two columns"


@dataclass(frozen=True)
class Pairs:
    """Sources and their targets, and the fields that they were read from (None: the columns of a table)."""

    pairs: list[Pair]
    source_field: str | None = None
    target_field: str | None = None

    def divided(self, holdout: float, seed: int) -> tuple[Self, Self]:
        """Two parts: the second has the share `holdout` of the pairs, at least one, chosen by the seed.

        UserError if there are not two pairs.
        """
        count = len(self.pairs)
        if count < 2:
            raise UserError(
                f"{count} pairs are too few to hold one out; give more, or name others to validate with"
            )
        order = permuted(np.arange(count), count, (seed,))
        num_held_out = min(max(round(holdout * count), 1), count - 1)
        parts = np.sort(order[num_held_out:]), np.sort(order[:num_held_out])
        trained, held_out = (replace(self, pairs=[self.pairs[index] for index in part]) for part in parts)
        return trained, held_out


class PairRows:
    """Encoded pairs as rows of context + 1 tokens, each once an epoch, in another order every epoch.

    A row is the source, `<|sep|>`, the target, `<|endoftext|>`, and `PADDING`. As with `Batches` there is no
    state: a batch is a stretch of one endless order. `skipped` counts the pairs that were too long or lacked a
    text, `num_target_bytes` the text of the targets that are here.
    """

    def __init__(
        self, rows: Sequence[NDArray[np.integer]], length: int, seed: int, *, skipped: int, num_target_bytes: int
    ) -> None:
        self.num_rows, self.skipped, self.num_target_bytes = len(rows), skipped, num_target_bytes
        self._tokens = np.concatenate(rows).astype(np.int32)
        self._starts = np.cumsum([0, *map(len, rows)])
        self._length, self._seed = length, seed

    def windows(self, first: int, count: int) -> NDArray[np.int64]:
        """Rows [first, first + count) of the endless order, int64 (count, context + 1)."""
        return self._rows(endless(np.arange(first, first + count), self.num_rows, self._seed))

    @property
    def in_order(self) -> NDArray[np.int64]:
        """Every pair once, in the order in which they came, int64 (N, context + 1)."""
        return self._rows(np.arange(self.num_rows))

    def _rows(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        rows = np.full((len(order), self._length), PADDING, np.int64)
        for row, pair in zip(rows, order, strict=True):
            start, end = self._starts[pair : pair + 2]
            row[: end - start] = self._tokens[start:end]
        return rows

    def epoch(self, windows: int) -> float:
        """How many times the pairs have been read after so many rows."""
        return windows / self.num_rows


def read_pairs(
    sources: Sequence[str], *, source_field: str | None = None, target_field: str | None = None
) -> Pairs:
    """The pairs of files, folders or patterns of .jsonl and .tsv files, compressed or not.

    Of JSON lines the fields are those named, or the only two that hold text in the first line; of a table its two
    columns. UserError for any other kind of file, and for a line that lacks a text.
    """
    pairs: list[Pair] = []
    fields: _Fields = (source_field, target_field)
    for item in (item for source in sources for item in resolve(source)):
        kind = suffixes_of(item.path)[0] if item.path else ""
        if item.path is not None and kind in JSON_LINES:
            found, fields = _read_json_lines(item.path, fields)
            pairs += found
        elif item.path is not None and kind == _TSV:
            pairs += _read_table(item.path)
        else:
            raise UserError(f"{item.path or item.source} holds no pairs of texts; give a file {_EXAMPLE}")
    if not pairs:
        raise UserError(f"{', '.join(sources)}: no pairs of texts; give a file {_EXAMPLE}")
    return Pairs(pairs, *fields)


def pair_rows(pairs: Sequence[Pair], tokenizer: Tokenizer, context: int, seed: int) -> PairRows:
    """The rows of all pairs that fit into context + 1 tokens.

    UserError if there are none, or if the tokenizer has no `<|sep|>`.
    """
    if SEPARATOR not in tokenizer.special_tokens:
        raise UserError(
            f"the tokenizer has no special token {SEPARATOR}, which divides source and target; train one"
        )
    separator, end = tokenizer.special_tokens[SEPARATOR], tokenizer.end_of_text
    rows: list[NDArray[np.integer]] = []
    num_target_bytes = 0
    for source, target in pairs:
        row = np.concatenate([tokenizer.encode_array(source), [separator], tokenizer.encode_array(target), [end]])
        if source and target and len(row) <= context + 1:
            rows.append(row)
            num_target_bytes += len(target.encode())
    if not rows:
        raise UserError(
            f"none of {len(pairs)} pairs fits into a context of {context} tokens; choose a longer model.context"
        )
    return PairRows(rows, context + 1, seed, skipped=len(pairs) - len(rows), num_target_bytes=num_target_bytes)


def _read_json_lines(path: Path, fields: _Fields) -> tuple[list[Pair], _Fields]:
    """The pairs, and the fields that they stand under."""
    pairs: list[Pair] = []
    with open_text(path) as lines:
        for where, record in json_records(lines, str(path)):
            source_field, target_field = fields = _named(fields, record, where)
            texts = (field_of(record, field, where, _CHOOSE) for field in (source_field, target_field))
            source, target = (text.decode("utf-8", "replace").strip() for text in texts)
            pairs.append((source, target))
    return pairs, fields


def _named(fields: _Fields, record: dict[str, Any], where: str) -> tuple[str, str]:
    """Both fields; one that is not named is guessed."""
    source, target = fields
    if source is None or target is None:
        texts = [field for field, value in record.items() if isinstance(value, str)]
        if len(texts) != 2 or not {source, target} <= {None, *texts}:
            there = ", ".join(texts) or "none"
            raise UserError(f"{where}: which fields are the pair? Those that hold text are: {there}; {_CHOOSE}")
        source = source or next(field for field in texts if field != target)
        target = target or next(field for field in texts if field != source)
    if source == target:
        raise UserError(f"data.source_field and data.target_field are both {source!r}; a pair needs two fields")
    return source, target


def _read_table(path: Path) -> Iterator[Pair]:
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.isspace():
                columns = line.decode("utf-8", "replace").strip("\r\n").split("\t")
                if len(columns) != 2:
                    raise UserError(
                        f"{path}, line {number}: {len(columns)} columns instead of two, a text and its "
                        "translation, divided by a tab; mend or remove the line"
                    )
                yield columns[0].strip(), columns[1].strip()
