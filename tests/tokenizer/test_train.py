from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.tokenizer.native import TIES
from groundup.tokenizer.pretokenize import PATTERNS, splitter
from groundup.tokenizer.train import byte_order, train_merges

from . import reference_trainer

# What the plain trainer is given; that documents become this, and the C++ the same merges: see test_learn.
COUNTS = st.dictionaries(st.text("abc").map(str.encode) | st.binary(max_size=12), st.integers(1, 9), max_size=12)


def counted(text: str) -> Counter[bytes]:
    return Counter(piece.encode() for piece in splitter(PATTERNS["cl100k"])(text))


@settings(max_examples=300, deadline=None)
@given(COUNTS, st.integers(0, 60), st.sampled_from(TIES), st.integers(0, 12))
def test_merges_are_those_of_the_reference(
    counts: dict[bytes, int], num_merges: int, ties: str, min_frequency: int
) -> None:
    ours = train_merges(counts, num_merges, ties=ties, min_frequency=min_frequency)
    assert ours == reference_trainer.train(counts, num_merges, ties, min_frequency)


@given(st.dictionaries(st.binary(max_size=12), st.integers(1, 1 << 40), max_size=12), st.sampled_from(TIES))
def test_training_ends_when_every_piece_is_one_token(counts: dict[bytes, int], ties: str) -> None:
    merges = train_merges(counts, 10_000, ties=ties)
    made = {left + right for left, right in merges}
    assert made >= {piece for piece in counts if len(piece) > 1}
    assert len(made) == len(merges)  # no token is made twice


@pytest.mark.parametrize("ties", TIES)
def test_counts_beyond_32_bits_decide(ties: str) -> None:
    assert train_merges({b"ab": 1 << 40, b"cd": (1 << 40) + 1}, 1, ties=ties) == [(b"c", b"d")]
    assert train_merges({b"cd": 1 << 40, b"ab": (1 << 40) + 1}, 1, ties=ties) == [(b"a", b"b")]


def test_the_rules_for_equal_counts_differ_as_they_are_described() -> None:
    counts = {b" a": 1, b"zb": 1, b"xa": 1}
    # hf: a space is a hidden byte and comes last; raw: the smallest bytes; cs336: the greatest.
    first = {ties: train_merges(counts, 1, ties=ties)[0] for ties in TIES}
    assert first == {"hf": (b"x", b"a"), "raw": (b" ", b"a"), "cs336": (b"z", b"b")}
    assert sorted(byte_order("hf")) == list(byte_order("raw")) == list(byte_order("cs336")) == list(range(256))


def test_the_order_of_pieces_does_not_matter(texts: dict[str, str]) -> None:
    counts = counted(texts["english"])
    assert train_merges(counts, 500) == train_merges(dict(sorted(counts.items())), 500)


@pytest.mark.parametrize("num_merges", [0, 7, 1000])
def test_progress_rises_to_one(num_merges: int, texts: dict[str, str]) -> None:
    seen: list[float] = []
    train_merges(counted(texts["english"]), num_merges, seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) <= 102
