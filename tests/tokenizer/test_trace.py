from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.tokenizer import Tokenizer
from groundup.tokenizer.definition import Definition
from groundup.tokenizer.trace import Piece, trace

WORDS = ["low lower lowest newest wider naïve e\u0301t\u00e9 天地玄黄 天地 aaaa aaa'll 2026 202"] * 20


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    return Tokenizer.train(WORDS, 330, special_tokens=("<|endoftext|>", "<|end"))


def ids_of(pieces: list[Piece]) -> list[int]:
    return [number for piece in pieces for number in piece.ids]


def assert_follows_the_rule(piece: Piece, definition: Definition) -> None:
    """Each step merges the pair of lowest rank, the leftmost among equals, and the last leaves no pair."""
    ranks = {pair: rank for rank, pair in enumerate(definition.merges)}
    *before, last = piece.states()
    for symbols, step in zip(before, piece.steps, strict=True):
        known = [(ranks[pair], place) for place, pair in enumerate(pairwise(symbols)) if pair in ranks]
        assert (step.rank, step.place) == min(known)
    assert b"".join(last) == piece.data
    assert [definition.ids[token] for token in last] == list(piece.ids)
    assert piece.tokens == last


@pytest.mark.parametrize("pattern", ["gpt2", "cl100k", "o200k"])
def test_ids_are_those_of_the_encoder_on_real_text(
    texts: dict[str, str], trained: Callable[[str], Tokenizer], pattern: str
):
    tokenizer = trained(pattern)
    for text in texts.values():
        part = text[:20_000]
        assert ids_of(trace(tokenizer.definition, part)) == tokenizer.encode_ordinary(part)


@given(st.text(max_size=40) | st.binary(max_size=40) | st.lists(st.sampled_from(WORDS[0].split())).map("".join))
@settings(max_examples=200)
def test_every_step_follows_the_rule(small: Tokenizer, text: str | bytes):
    definition = small.definition
    pieces = trace(definition, text)
    for piece in pieces:
        if piece.kind == "merged":
            assert_follows_the_rule(piece, definition)
    assert ids_of(pieces) == small.encode(text, allowed_special="all")
    assert b"".join(piece.data for piece in pieces) == small.decode_bytes(ids_of(pieces))


def test_special_tokens_are_pieces_of_their_own_and_the_longest_wins(small: Tokenizer):
    pieces = trace(small.definition, "low<|endoftext|><|end low")
    assert [(piece.data, piece.kind) for piece in pieces] == [
        (b"low", "merged"),
        (b"<|endoftext|>", "special"),
        (b"<|end", "special"),
        (b" low", "merged"),
    ]
    assert pieces[1].ids == (small.special_tokens["<|endoftext|>"],)
    assert list(pieces[1].states()) == [[b"<|endoftext|>"]]


def test_a_whole_piece_needs_no_merge(small: Tokenizer):
    definition = small.definition
    unreachable = b"zq"
    whole = replace(
        definition, whole_pieces=True, vocabulary={**definition.ids, unreachable: 1 + max(definition.ids.values())}
    )
    (found,) = trace(whole, "zq")
    assert (found.kind, found.steps, found.tokens) == ("whole", (), [unreachable])
    (merged,) = trace(replace(whole, whole_pieces=False), "zq")
    assert (merged.kind, merged.tokens) == ("merged", [b"z", b"q"])


def test_what_is_done_to_a_text_before_it_is_cut(small: Tokenizer):
    definition = replace(small.definition, compose=True, add_prefix_space=True)
    pieces = trace(definition, "e\u0301t\u00e9<|endoftext|>low")
    assert [piece.data.decode() for piece in pieces] == [" \u00e9t\u00e9", "<|endoftext|>", " low"]
    assert ids_of(pieces) == Tokenizer(definition).encode("e\u0301t\u00e9<|endoftext|>low", allowed_special="all")


def test_nothing_comes_of_nothing(small: Tokenizer):
    assert trace(small.definition, "") == []
