import json
from collections.abc import Iterable

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, models, pre_tokenizers, trainers

from groundup.tokenizer.alphabet import from_characters
from groundup.tokenizer.pretokenize import PATTERNS, count_pieces
from groundup.tokenizer.train import train_merges


def hugging_face_merges(documents: Iterable[str], num_merges: int, pattern: str) -> list[tuple[bytes, bytes]]:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=256 + num_merges,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(from_characters(left), from_characters(right)) for left, right in merges]


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_merges_are_those_of_hugging_face_on_real_text(texts: dict[str, str], pattern: str) -> None:
    ours = train_merges(count_pieces(texts.values(), pattern), 3000)
    assert len(ours) == 3000
    assert ours == hugging_face_merges(texts.values(), 3000, pattern)


# Few letters make runs ("aaaa") and ties, where implementations differ; the last pattern joins all to one piece.
@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.text("ab \n") | st.text("aAbé中🙂1 '\r\n"), max_size=12),
    st.sampled_from([*PATTERNS.values(), r"[\s\S]+"]),
    st.integers(0, 120),
)
def test_merges_are_those_of_hugging_face_on_any_text(documents: list[str], pattern: str, num_merges: int) -> None:
    ours = train_merges(count_pieces(documents, pattern), num_merges)
    assert ours == hugging_face_merges(documents, num_merges, pattern)


@given(st.dictionaries(st.binary(max_size=12), st.integers(1, 1 << 40), max_size=12))
def test_training_ends_when_every_piece_is_one_token(counts: dict[bytes, int]) -> None:
    merges = train_merges(counts, 10_000)
    made = {left + right for left, right in merges}
    assert made >= {piece for piece in counts if len(piece) > 1}
    assert len(made) == len(merges)  # no token is made twice


def test_counts_beyond_32_bits_decide() -> None:
    assert train_merges({b"ab": 1 << 40, b"cd": (1 << 40) + 1}, 1) == [(b"c", b"d")]


def test_the_order_of_pieces_does_not_matter(texts: dict[str, str]) -> None:
    counts = count_pieces([texts["english"]], PATTERNS["cl100k"])
    assert train_merges(counts, 500) == train_merges(dict(sorted(counts.items())), 500)


@pytest.mark.parametrize("num_merges", [0, 7, 1000])
def test_progress_rises_to_one(num_merges: int, texts: dict[str, str]) -> None:
    seen: list[float] = []
    train_merges(count_pieces([texts["english"]], PATTERNS["cl100k"]), num_merges, seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) <= 102
