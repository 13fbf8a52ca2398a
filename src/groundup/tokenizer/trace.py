"""How a text becomes tokens, step by step: its pieces, and the merges of each as they happen."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal
from unicodedata import normalize

from groundup.tokenizer.definition import Definition
from groundup.tokenizer.pretokenize import as_bytes, as_text, as_utf8
from groundup.tokenizer.special import cut_out
from groundup.tokenizer.splits import splitter_in_turn

Kind = Literal["merged", "whole", "special"]


@dataclass(frozen=True)
class Step:
    """One merge: the symbols at `place` and `place + 1` become one; `rank` is that of the merge."""

    rank: int
    place: int


@dataclass(frozen=True)
class Piece:
    """A piece of the text and how it became `ids`.

    `merged`: its bytes were merged, step by step. `whole`: it is in the vocabulary, and the tokenizer looks there
    first. `special`: it is a special token.
    """

    data: bytes
    ids: tuple[int, ...]
    kind: Kind
    steps: tuple[Step, ...] = ()

    def states(self) -> Iterator[list[bytes]]:
        """The symbols before the first step, and after each step."""
        symbols = [self.data] if self.kind != "merged" else [bytes([byte]) for byte in self.data]
        yield list(symbols)
        for step in self.steps:
            symbols[step.place : step.place + 2] = [symbols[step.place] + symbols[step.place + 1]]
            yield list(symbols)

    @property
    def tokens(self) -> list[bytes]:
        """The bytes of each of `ids`."""
        *_, last = self.states()
        return last


def trace(definition: Definition, text: str | bytes) -> list[Piece]:
    """The pieces of `text` in order, special tokens among them; their ids are those of `Tokenizer.encode`.

    Written to be looked at: O(n^2) in the bytes of a piece, and independent of the code that encodes.
    """
    tracer = _Tracer(definition)
    pieces: list[Piece] = []
    for part, token in cut_out(as_utf8(text), frozenset(definition.special_tokens)):
        pieces += tracer.pieces(as_text(part))
        if token is not None:
            pieces.append(Piece(token.encode(), (definition.special_tokens[token],), "special"))
    return pieces


class _Tracer:
    """Traces text without special tokens; a piece that comes again is not worked out again."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._ids = definition.ids
        self._split = splitter_in_turn(definition.patterns)
        self._ranks = {pair: rank for rank, pair in enumerate(definition.merges)}
        self._known: dict[bytes, Piece] = {}

    def pieces(self, text: str) -> list[Piece]:
        if self._definition.compose:
            text = normalize("NFC", text)
        if self._definition.add_prefix_space and text and not text.startswith(" "):
            text = f" {text}"
        return [self._piece(as_bytes(piece)) for piece in self._split(text)]

    def _piece(self, data: bytes) -> Piece:
        if data not in self._known:
            if self._definition.whole_pieces and data in self._ids:
                self._known[data] = Piece(data, (self._ids[data],), "whole")
            else:
                symbols, steps = _merge([bytes([byte]) for byte in data], self._ranks)
                self._known[data] = Piece(data, tuple(self._ids[symbol] for symbol in symbols), "merged", steps)
        return self._known[data]


def _merge(symbols: list[bytes], ranks: Mapping[tuple[bytes, bytes], int]) -> tuple[list[bytes], tuple[Step, ...]]:
    """Merge the pair of lowest rank, the leftmost among equals, until none is left."""
    never = len(ranks)
    pairs = [ranks.get(pair, never) for pair in pairwise(symbols)]
    steps: list[Step] = []
    while pairs and (rank := min(pairs)) != never:
        place = pairs.index(rank)
        steps.append(Step(rank, place))
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
        del pairs[place]
        for left in (place - 1, place):
            if 0 <= left < len(pairs):
                pairs[left] = ranks.get((symbols[left], symbols[left + 1]), never)
    return symbols, tuple(steps)
