from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.tokenizer import Tokenizer, encode
from groundup.tokenizer.definition import Definition
from groundup.tokenizer.encode import PieceEncoder, PlainEncoder, merge_symbols
from groundup.tokenizer.pretokenize import PATTERNS, splitter


def merge_as_defined(symbols: list[int], ranks: dict[int, int], merged: list[int]) -> list[int]:
    """Byte-pair encoding as its definition reads: again and again the leftmost pair of the lowest rank."""
    while True:
        pairs = [left << 32 | right for left, right in pairwise(symbols)]
        known = [(ranks[pair], place) for place, pair in enumerate(pairs) if pair in ranks]
        if not known:
            return symbols
        rank, place = min(known)
        symbols = [*symbols[:place], merged[rank], *symbols[place + 2 :]]


@st.composite
def any_merges(draw: st.DrawFn) -> tuple[dict[int, int], list[int]]:
    """Random rules over three letters, in no sensible order: pairs may outrank the merges that make them."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), unique=True, max_size=20))
    merged = draw(st.lists(st.integers(3, 8), min_size=len(pairs), max_size=len(pairs)))
    return {left << 32 | right: rank for rank, (left, right) in enumerate(pairs)}, merged


@settings(max_examples=500)
@given(any_merges(), st.lists(st.integers(0, 2), max_size=60))
def test_merging_follows_the_definition(rules: tuple[dict[int, int], list[int]], symbols: list[int]) -> None:
    assert merge_symbols(list(symbols), *rules) == merge_as_defined(symbols, *rules)


class CountingRanks(dict[int, int]):
    """Ranks that count how often they are asked: each is one step of work."""

    asked = 0

    def get(self, pair: int, default: int) -> int:  # type: ignore[override]
        self.asked += 1
        return super().get(pair, default)


@pytest.mark.parametrize("text", [b"a", b"ab", b" the quick brown fox"])
def test_work_on_a_long_piece_grows_linearly(text: bytes) -> None:
    tokenizer = Tokenizer.train([text.decode() * 5000], 600, pattern=r"[\s\S]+")
    encoder = PieceEncoder(Definition(pattern="", merges=tuple(tokenizer.merges), special_tokens={}))
    asked = []
    for length in (20_000, 200_000):
        ranks = CountingRanks(encoder._ranks)
        symbols = [encoder._byte_ids[byte] for byte in (text * length)[:length]]
        assert len(merge_symbols(symbols, ranks, encoder._merged)) < length / 10
        asked.append(ranks.asked)
        assert ranks.asked < 4 * length
    assert 8 < asked[1] / asked[0] < 12


@pytest.mark.parametrize("text", ["a", " ", "\n", "ab", "中", "🙂!"])
def test_long_runs_give_the_peers_ids(
    text: str,
    code_path: str,
    trained: Callable[[str], Tokenizer],
    hugging_face: Callable,
    tiktoken_encoding: Callable,
) -> None:
    tokenizer = Tokenizer(trained("cl100k").definition)
    run = text * (200_000 // len(text))
    ids = tokenizer.encode_ordinary(run)
    assert ids == hugging_face(tokenizer).encode(run).ids
    assert ids == tiktoken_encoding(tokenizer).encode_ordinary(run)


def test_memory_is_bounded_and_ids_stay_right(
    monkeypatch: pytest.MonkeyPatch, trained: Callable[[str], Tokenizer], texts: dict[str, str]
) -> None:
    tokenizer = trained("cl100k")
    expected = tokenizer.encode_ordinary(texts["english"])
    monkeypatch.setattr(encode, "_REMEMBERED_PIECES", 10)
    plain = PlainEncoder(tokenizer.definition)
    out = np.empty(len(texts["english"].encode()), np.uint32)
    assert out[: plain.encode(texts["english"].encode(), out)].tolist() == expected
    pieces = plain._pieces
    assert 0 < len(pieces) <= 10
    ids = []
    for piece in splitter(tokenizer.pattern)(texts["english"]):
        ids += pieces[piece]
        assert piece in pieces and len(pieces) <= 10
    assert ids == expected
    before = dict(pieces)
    assert len(pieces["x" * 1000]) > 0
    assert pieces == before  # long pieces are not kept


def test_whole_pieces_win_over_merges(code_path: str) -> None:
    vocabulary = {bytes([byte]): byte for byte in range(256)} | {b"ab": 256, b"abc": 257}
    rules = {
        "pattern": PATTERNS["gpt2"],
        "merges": ((b"a", b"b"),),
        "special_tokens": {},
        "vocabulary": vocabulary,
    }
    assert Tokenizer(Definition(**rules)).encode("abc ab xabc") == [256, 99, 32, 256, 32, 120, 256, 99]
    assert Tokenizer(Definition(**rules, whole_pieces=True)).encode("abc ab xabc") == [
        257,
        32,
        256,
        32,
        120,
        256,
        99,
    ]
