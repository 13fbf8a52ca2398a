"""Pages about tokenizers: how a text becomes tokens, merge by merge, and what tokenizers make of a text."""

from collections.abc import Mapping, Sequence
from typing import Any

from groundup.studio.page import asset, render_page
from groundup.studio.vocabulary import visible
from groundup.tokenizer.definition import Definition
from groundup.tokenizer.trace import Piece

_STYLES = ["report.css", "tokens.css"]


def render_trace(name: str, pieces: Sequence[Piece], definition: Definition) -> str:
    """A page in which one steps through the merges of each piece.

    Args:
        name: what the tokenizer is called on the page.
        pieces: of the text (see `trace.trace`).
        definition: of the tokenizer.
    """
    return render_page("trace.html.j2", _STYLES, [asset("trace.js")], trace_facts(name, pieces, definition))


def trace_facts(name: str, pieces: Sequence[Piece], definition: Definition) -> dict[str, Any]:
    """What the page of a trace shows, as plain data: the text's tokens, and its pieces, each of them once."""
    ids = definition.ids
    distinct = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokens = [
        {
            "id": number,
            "text": visible(token),
            "bytes": token.hex(" ").upper(),
            "piece": distinct[piece],
            "ends_line": token.endswith(b"\n"),
        }
        for piece in pieces
        for number, token in zip(piece.ids, piece.tokens, strict=True)
    ]
    num_bytes = sum(len(piece.data) for piece in pieces)
    return {
        "name": name,
        "vocabulary_size": 1 + max(*ids.values(), *definition.special_tokens.values()),
        "num_bytes": num_bytes,
        "num_pieces": len(pieces),
        "tokens": tokens,
        "bytes_per_token": num_bytes / len(tokens) if tokens else None,
        "pieces": [_piece_facts(piece, ids) for piece in distinct],
    }


def _piece_facts(piece: Piece, ids: Mapping[bytes, int]) -> dict[str, Any]:
    """A piece and its merges as blocks: each from byte `start` to `end`, on the `level` above its parts."""
    blocks = [(place, place + 1, 0) for place in range(len(piece.data))]
    merges = []
    for step in piece.steps:
        (start, middle, left_level), (_, end, right_level) = blocks[step.place : step.place + 2]
        level = 1 + max(left_level, right_level)
        blocks[step.place : step.place + 2] = [(start, end, level)]
        token = piece.data[start:end]
        merges.append(
            {
                "rank": step.rank,
                "id": ids[token],
                "start": start,
                "middle": middle,
                "end": end,
                "level": level,
                "left": visible(piece.data[start:middle]),
                "right": visible(piece.data[middle:end]),
                "text": visible(token),
            }
        )
    return {
        "text": visible(piece.data),
        "kind": piece.kind,
        "bytes": [f"{byte:02X}" for byte in piece.data],
        "characters": _characters(piece.data),
        "merges": merges,
        "tokens": [
            {"id": number, "text": visible(token)} for number, token in zip(piece.ids, piece.tokens, strict=True)
        ],
    }


def _characters(data: bytes) -> list[dict[str, Any]]:
    """Each character of a piece with the number of its bytes; bytes that are not UTF-8 have no text."""
    characters = [
        character.encode("utf-8", "surrogateescape") for character in data.decode("utf-8", "surrogateescape")
    ]
    return [
        {"length": len(encoded), "text": visible(encoded) if len(encoded) > 1 or encoded < b"\x80" else ""}
        for encoded in characters
    ]


def render_comparison(tokenizers: Sequence[dict[str, Any]]) -> str:
    """A page with the figures of tokenizers on the same text, side by side (see `pipeline.tokenizing.compare`)."""
    facts = {
        "tokenizers": [
            tokenizer | {name: _chips(tokenizer[name]) for name in _EXAMPLES} for tokenizer in tokenizers
        ],
        "measures": _MEASURES,
        "groups": _groups(tokenizers),
    }
    return render_page("comparison.html.j2", _STYLES, [], facts)


_EXAMPLES = ("longest", "most_frequent", "unused")
_MEASURES = (
    ("Vocabulary", "vocabulary_size", "exact"),
    ("Tokens", "tokens", "exact"),
    ("Bytes per token", "bytes_per_token", "bits"),
    ("Characters per token", "characters_per_token", "bits"),
    ("Tokens per word (fertility)", "tokens_per_word", "bits"),
    ("Words that are one token", "whole_words_share", "percent"),
    ("Tokens of a single byte", "single_byte_share", "percent"),
    ("Tokens that split a character", "partial_character_share", "percent"),
    ("Ids used", "used_ids", "exact"),
    ("Ids never used", "unused_ids", "exact"),
    ("Share of the vocabulary used", "used_share", "percent"),
)
_GROUPS = (
    ("Bytes per token by source", "by_source", "source", "bytes_per_token"),
    ("Bytes per token by kind of character", "by_kind", "kind", "bytes_per_token"),
    ("Characters per token by kind of character", "by_kind", "kind", "characters_per_token"),
    ("Tokens per word by script", "by_kind", "kind", "tokens_per_word"),
)


def _chips(examples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**example, "text": visible(bytes.fromhex(example["bytes"]))} for example in examples]


def _groups(tokenizers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tables of one figure: a row a source or kind, with its bytes of text, a value a tokenizer."""
    groups = []
    for title, group, label, field in _GROUPS:
        found = [{inner[label]: inner[field] for inner in tokenizer[group]} for tokenizer in tokenizers]
        rows = [
            {"label": inner[label], "bytes": inner["bytes"], "values": [own.get(inner[label]) for own in found]}
            for inner in tokenizers[0][group]
        ]
        rows = [row for row in rows if any(value is not None for value in row["values"])]
        if rows and (group != "by_source" or len(rows) > 1):
            greatest = max(value for row in rows for value in row["values"] if value is not None)
            groups.append({"title": title, "label": label, "rows": rows, "greatest": greatest})
    return groups
