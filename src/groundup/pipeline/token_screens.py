"""What `groundup tokenizer` shows in the terminal: tables of figures, coloured tokens, merges."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from groundup.studio.quantities import quantity
from groundup.studio.vocabulary import visible
from groundup.tokenizer.trace import Piece

_COLOURS = ("black on cyan", "black on yellow", "black on green", "white on magenta", "white on blue")
_MISSING = "–"


def show_training(outcome: dict[str, Any], console: Console) -> None:
    """A short table of what `tokenizing.train` gives."""
    vocabulary = f"{outcome['vocabulary_size']:,}"
    if outcome["vocabulary_size"] < outcome["asked_vocabulary_size"]:
        vocabulary += f" (not {outcome['asked_vocabulary_size']:,}: the text offers no more)"
    rate = quantity(outcome["bytes_per_second"], "bytes_per_second")
    rows = [
        ("vocabulary", vocabulary),
        ("merges", _written(outcome["merges"], "{:,}")),
        ("bytes per token", f"{outcome['bytes_per_token']:.3f} on a sample of the text"),
        ("text", f"{quantity(outcome['bytes'], 'bytes')}, {_counted(outcome['documents'], 'document')}"),
        ("time", f"{quantity(outcome['seconds'], 'seconds')}, {rate}"),
        ("written to", outcome["out"]),
    ]
    if outcome["skipped_files"]:
        rows.insert(4, ("skipped", f"{len(outcome['skipped_files']):,} files that are not UTF-8 text"))
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in rows:
        table.add_row(name, escape(value))
    console.print(table, soft_wrap=True)


_MEASURES = (
    ("vocabulary", "vocabulary_size", "{:,}"),
    ("tokens", "tokens", "{:,}"),
    ("bytes per token", "bytes_per_token", "{:.3f}"),
    ("characters per token", "characters_per_token", "{:.3f}"),
    ("tokens per word (fertility)", "tokens_per_word", "{:.3f}"),
    ("words that are one token", "whole_words_share", "{:.1%}"),
    ("tokens of a single byte", "single_byte_share", "{:.1%}"),
    ("tokens that split a character", "partial_character_share", "{:.1%}"),
    ("ids used", "used_ids", "{:,}"),
    ("ids never used", "unused_ids", "{:,}"),
    ("share of the vocabulary used", "used_share", "{:.1%}"),
)


def show_comparison(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """Tables of what `tokenizing.compare` gives, a column a tokenizer."""
    names = [row["name"] for row in rows]
    first = rows[0]
    size = f"{quantity(first['bytes'], 'bytes')}, {first['characters']:,} characters"
    table = _table(f"On {size}, {_counted(first['documents'], 'document')}", "", names)
    for label, field, form in _MEASURES:
        table.add_row(label, *(_written(row[field], form) for row in rows))
    console.print(table, "")
    if len(first["by_source"]) > 1:
        sources = [row["source"] for row in first["by_source"]]
        _show_rates("Bytes per token by source", rows, names, "by_source", sources, "bytes_per_token", console)
    kinds = [row["kind"] for row in first["by_kind"]]
    for title, field in (
        ("Bytes per token by kind of character", "bytes_per_token"),
        ("Characters per token by kind of character", "characters_per_token"),
        ("Tokens per word by script", "tokens_per_word"),
    ):
        _show_rates(title, rows, names, "by_kind", kinds, field, console)
    for row in rows:
        _show_examples(row, console)


def _show_rates(
    title: str,
    rows: Sequence[dict[str, Any]],
    names: Sequence[str],
    group: str,
    labels: Sequence[str],
    field: str,
    console: Console,
) -> None:
    """A row for each of `labels` for which any tokenizer has the figure."""
    label_field = "source" if group == "by_source" else "kind"
    found = [{inner[label_field]: inner[field] for inner in row[group]} for row in rows]
    table = _table(title, "", names)
    for label in labels:
        values = [of_tokenizer.get(label) for of_tokenizer in found]
        if any(value is not None for value in values):
            table.add_row(escape(label), *(_written(value, "{:.3f}") for value in values))
    if table.row_count:
        console.print(table, "")


def _show_examples(row: dict[str, Any], console: Console) -> None:
    console.print(f"[bold]{escape(row['name'])}[/]", highlight=False)
    for title, field in (
        ("longest tokens", "longest"),
        ("most frequent tokens", "most_frequent"),
        ("never used, learned first", "unused"),
    ):
        tokens = [visible(bytes.fromhex(example["bytes"])) for example in row[field]]
        if tokens:
            console.print(f"{title}: ", Text("  ".join(tokens), style="cyan"), sep="", highlight=False)
    console.print()


def _table(title: str, first: str, names: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    table.add_column(first)
    for name in names:
        table.add_column(escape(name), justify="right", overflow="fold")
    return table


def _written(value: float | None, form: str) -> str:
    return _MISSING if value is None else form.format(value)


def show_trace(pieces: Sequence[Piece], console: Console) -> None:
    """The tokens in colour, a table of them, and the merges of each piece once."""
    tokens = [(number, token) for piece in pieces for number, token in zip(piece.ids, piece.tokens, strict=True)]
    num_bytes = sum(len(token) for _, token in tokens)
    rate = f", {num_bytes / len(tokens):.2f} bytes per token" if tokens else ""
    sizes = ((num_bytes, "byte"), (len(pieces), "piece"), (len(tokens), "token"))
    console.print(f"{', '.join(_counted(*size) for size in sizes)}{rate}\n", highlight=False)
    console.print(_coloured([token for _, token in tokens]), soft_wrap=True)
    console.print(_token_table(tokens))
    for piece in dict.fromkeys(pieces):
        console.print(_merges(piece))


def _coloured(tokens: Sequence[bytes]) -> Text:
    """Neighbours differ in colour."""
    line = Text()
    for number, token in enumerate(tokens):
        line.append(visible(token), style=_COLOURS[number % len(_COLOURS)])
        if token.endswith(b"\n"):
            line.append("\n")
    return line.append("\n")


def _token_table(tokens: Sequence[tuple[int, bytes]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("id", "token", "bytes"):
        table.add_column(name, justify="right" if name == "id" else "left", overflow="fold")
    for place, (number, token) in enumerate(tokens):
        colour = _COLOURS[place % len(_COLOURS)]
        table.add_row(str(number), Text(visible(token), style=colour), token.hex(" "))
    return table


def _merges(piece: Piece) -> Group:
    """The symbols of a piece before the first merge and after each, with what was merged and its rank."""
    how = {"whole": ": in the vocabulary as a whole", "special": ": a special token"}.get(piece.kind, "")
    head = f"{visible(piece.data)}  {_counted(len(piece.data), 'byte')}, {_counted(len(piece.ids), 'token')}{how}"
    lines = [Text("\n").append(head, style="bold")]
    states = list(piece.states())
    if piece.kind == "merged":
        lines.append(Text("  ").append(_separated(states[0])))
    for step, before, after in zip(piece.steps, states, states[1:], strict=False):
        left, right = before[step.place : step.place + 2]
        line = Text("  ").append(_separated(after, step.place))
        line.append(f"   {visible(left)} + {visible(right)}, rank {step.rank:,}", style="dim")
        lines.append(line)
    return Group(*lines)


def _counted(number: int, name: str) -> str:
    return f"{number:,} {name}{'s' if number != 1 else ''}"


def _separated(symbols: Sequence[bytes], new: int | None = None) -> Text:
    """Symbols with bars between them, that at `new` marked."""
    line = Text()
    for place, symbol in enumerate(symbols):
        if place:
            line.append("|", style="dim")
        line.append(visible(symbol), style="reverse" if place == new else "")
    return line
