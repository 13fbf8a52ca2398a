"""Labelled examples: texts with their labels from JSON lines, CSV or TSV, and rows to learn labels from."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from groundup.data.formats import JSON_LINES, json_records, open_text, suffixes_of
from groundup.data.permutation import endless
from groundup.data.text import encode_text
from groundup.errors import UserError, nearest
from groundup.tokenizer.load import AnyTokenizer

Integers = npt.NDArray[np.integer[Any]]

Frame: TypeAlias = Literal["border", "enclosed", "alone"]

PADDING = -1
_ENCLOSING = (("<|cls|>", "<|sep|>"), ("[CLS]", "[SEP]"))
TEXT_FIELDS = ("text", "sentence", "review", "content", "text_a")
LABEL_FIELDS = ("label", "class", "category", "sentiment")
_SEPARATORS = {".csv": ",", ".tsv": "\t"}


class LabelledRows:
    """Rows [label, values...], each once an epoch, in an order that is another permutation every epoch.

    As `Batches`, but in memory: labels (N,) and values (N, R), of any whole-number type.
    """

    def __init__(self, labels_N: Integers, values_NR: Integers, seed: int) -> None:
        self.labels, self.values = labels_N, values_NR
        self._seed = seed

    @property
    def num_rows(self) -> int:
        """N, those of an epoch."""
        return len(self.labels)

    def windows(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Rows [first, first + count) of the endless order, int64 (count, 1 + R)."""
        order = endless(np.arange(first, first + count), self.num_rows, self._seed)
        return np.column_stack([self.labels[order], self.values[order]]).astype(np.int64)

    @property
    def in_order(self) -> npt.NDArray[np.int64]:
        """All rows as the data has them, int64 (N, 1 + R)."""
        return np.column_stack([self.labels, self.values]).astype(np.int64)

    def with_values(self, values_NR: Integers) -> "LabelledRows":
        """The same labels in the same order, with other values."""
        return LabelledRows(self.labels, values_NR, self._seed)

    def few(self, per_label: int, seed: int) -> Self:
        """So many of each label; UserError where there are not."""
        return self._part(_few_places(self.labels, str, per_label, seed))

    def divided(self, share: float, seed: int) -> tuple[Self, Self]:
        """Two parts, the second with `share` of each label's rows."""
        first, second = stratified(self.labels, share, seed)
        return self._part(first), self._part(second)

    def _part(self, chosen: npt.NDArray[np.int64]) -> Self:
        return type(self)(self.labels[chosen], self.values[chosen], self._seed)


@dataclass(frozen=True)
class LabelledTexts:
    """Texts, and the label of each as it is written."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def names(self) -> list[str]:
        """The different labels: whole numbers by size, others by the alphabet."""
        found = set(self.labels)
        return sorted(found, key=int) if all(map(_is_number, found)) else sorted(found)

    def numbers(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        """The place of each label among `names`; UserError for one that is not there."""
        places = {name: place for place, name in enumerate(names)}
        for label in self.labels:
            if label not in places:
                raise UserError(f"label {label!r} does not occur in the training data{nearest(label, names)}")
        return np.array([places[label] for label in self.labels], np.int64)

    def chosen(self, places: npt.NDArray[np.int64]) -> "LabelledTexts":
        """Some of them."""
        return LabelledTexts(
            tuple(self.texts[place] for place in places), tuple(self.labels[place] for place in places)
        )


def read_labelled(path: Path, text_field: str | None = None, label_field: str | None = None) -> LabelledTexts:
    """Read `.jsonl`, `.ndjson`, `.csv` or `.tsv` (with a line of headings), as they are or compressed.

    Without names the fields are the first of `TEXT_FIELDS` and of `LABEL_FIELDS` that are there. Labels are text
    or whole numbers.

    Raises:
        UserError: the file cannot be read or is of another kind; or a line, whose number is told, is damaged or
            lacks a field.
    """
    texts: list[str] = []
    labels: list[str] = []
    for where, record in _records(path):
        if not texts:
            text_field = _choose(record, text_field, TEXT_FIELDS, "--text-field", where)
            label_field = _choose(record, label_field, LABEL_FIELDS, "--label-field", where)
        assert text_field is not None and label_field is not None
        texts.append(_text(record, text_field, where))
        labels.append(_label(record, label_field, where))
    if not texts:
        raise UserError(f"{path} has no examples; give lines with a text and a label")
    return LabelledTexts(tuple(texts), tuple(labels))


def read_parts(
    data: Path,
    valid: Path | None = None,
    *,
    text_field: str | None = None,
    label_field: str | None = None,
    per_label: int | None = None,
    held_out: float = 0.2,
    seed: int = 0,
) -> tuple[LabelledTexts, LabelledTexts]:
    """Texts to learn from and others to measure on: those of `valid`, or a share `held_out` of each label's.

    With `per_label` only so many of each label are learnt from; the others of `data` are left out.

    Raises:
        UserError: as `read_labelled`; or there are fewer than two labels, or too few examples of one.
    """
    train = read_labelled(data, text_field, label_field)
    if valid is None:
        learnt, measured = stratified(train.numbers(train.names), held_out, seed)
        train, test = train.chosen(learnt), train.chosen(measured)
    else:
        test = read_labelled(valid, text_field, label_field)
    if len(train.names) < 2 or not len(test):
        raise UserError(
            f"{data} has {len(train)} examples to learn from, with the labels {', '.join(train.names)}; give two "
            "labels or more, and several examples of each"
        )
    test.numbers(train.names)  # raises where a label was never seen
    return (train if per_label is None else _few(train, per_label, seed)), test


def stratified(labels_N: Integers, share: float, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The places of `labels_N` in two parts, the second with `share` of each label's, rounded; both in order.

    Of a label that occurs twice or more, neither part has none.
    """
    held_out: list[npt.NDArray[np.int64]] = []
    for places in _shuffled_by_label(labels_N, seed):
        count = min(max(round(share * len(places)), 1), len(places) - 1)
        held_out.append(places[:count])
    second = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels_N)), second), second


def encode_texts(
    texts: Sequence[str], tokenizer: AnyTokenizer, context: int, frame: Frame = "border"
) -> npt.NDArray[np.int32]:
    """Ids (N, T), with -1 behind each text; T is that of the longest, and at most `context`: more is cut off.

    Each stands in its frame, as when the model was trained: behind the end of text that is the border between
    documents, `enclosed` by `<|cls|>` and `<|sep|>` (or BERT's own), or alone. UserError where there are no such
    tokens.
    """
    before, behind = _frame(tokenizer, frame)
    room = context - len(before) - len(behind)
    rows = [[*before, *tokenizer.encode_array(text)[:room].tolist(), *behind] for text in texts]
    ids_NT = np.full((len(texts), max(map(len, rows), default=0)), PADDING, np.int32)
    for row, ids in zip(ids_NT, rows, strict=True):
        # An empty text that stands alone is a border: there must be something to read.
        row[: max(len(ids), 1)] = ids or [tokenizer.end_of_text]
    return ids_NT


def _frame(tokenizer: AnyTokenizer, frame: Frame) -> tuple[list[int], list[int]]:
    """The ids before and behind a text."""
    if frame == "alone":
        return [], []
    if frame == "border":
        return [tokenizer.end_of_text], []
    for cls, sep in _ENCLOSING:
        if cls in tokenizer.special_tokens and sep in tokenizer.special_tokens:
            return [tokenizer.special_tokens[cls]], [tokenizer.special_tokens[sep]]
    raise UserError(
        f"the tokenizer has neither {' and '.join(_ENCLOSING[0])} nor {' and '.join(_ENCLOSING[1])}, between "
        "which the model reads texts; put the tokenizer there that it was trained with"
    )


def _few(texts: LabelledTexts, per_label: int, seed: int) -> LabelledTexts:
    """So many of each label."""
    return texts.chosen(_few_places(texts.numbers(texts.names), texts.names.__getitem__, per_label, seed))


def _few_places(
    labels_N: Integers, name_of: Callable[[int], str], per_label: int, seed: int
) -> npt.NDArray[np.int64]:
    """The places of so many of each label, drawn; UserError where there are not so many."""
    rarest, count = min(Counter(labels_N.tolist()).items(), key=lambda item: item[1])
    if count < per_label:
        raise UserError(
            f"label {name_of(rarest)!r} has {count} examples to learn from; choose at most {count} for each label"
        )
    return np.sort(np.concatenate([of_label[:per_label] for of_label in _shuffled_by_label(labels_N, seed)]))


def _shuffled_by_label(labels_N: Integers, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """The places of each label, in an order drawn for it."""
    for label in np.unique(labels_N):
        yield np.random.default_rng((seed, int(label))).permutation(np.flatnonzero(labels_N == label))


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    kind = suffixes_of(path)[0]
    if kind not in (*JSON_LINES, *_SEPARATORS):
        known = ", ".join((*JSON_LINES, *_SEPARATORS))
        raise UserError(
            f"{path}: labelled texts are read from {known}, as they are or compressed; rename or convert it"
        )
    with open_text(path) as file:
        if kind in JSON_LINES:
            yield from json_records(file, str(path))
            return
        lines = csv.DictReader(TextIOWrapper(file, "utf-8", "replace", newline=""), delimiter=_SEPARATORS[kind])
        try:
            for record in lines:
                yield f"{path}, line {lines.line_num}", record
        except csv.Error as error:
            raise UserError(
                f"{path}, line {lines.line_num}: not {kind[1:].upper()} ({error}); mend the line"
            ) from None


def _choose(record: dict[str, Any], wanted: str | None, guesses: Sequence[str], option: str, where: str) -> str:
    """The field to read: the one that is wanted, or the first guess that is there."""
    for name in guesses if wanted is None else [wanted]:
        if name in record:
            return name
    there = ", ".join(map(str, record)) or "none"
    looked_for = ", ".join(guesses) if wanted is None else wanted
    raise UserError(f"{where}: no field {looked_for}; the fields are: {there}; choose one with {option} NAME")


def _text(record: dict[str, Any], field: str, where: str) -> str:
    value = record.get(field)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: field {field!r} is {value!r}, not a text; mend or remove the line")
    return encode_text(value).decode("utf-8", "replace")


def _label(record: dict[str, Any], field: str, where: str) -> str:
    value = record.get(field)
    if not isinstance(value, str | int) or not str(value).strip():
        raise UserError(
            f"{where}: field {field!r} is {value!r}, not a label (text or a whole number); mend or remove the line"
        )
    return str(value).strip()


def _is_number(label: str) -> bool:
    return label.removeprefix("-").isdecimal()
