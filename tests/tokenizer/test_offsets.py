from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.tokenizer import Tokenizer

from .strategies import LONG_BYTES, LONG_TEXT

Trained = Callable[[str], Tokenizer]
Build = Callable[[Tokenizer], tokenizers.Tokenizer]


@pytest.mark.parametrize("pattern", ["gpt2", "cl100k-tiktoken", "o200k"])
def test_offsets_are_those_of_hugging_face(
    pattern: str, trained: Trained, hugging_face: Build, texts: dict[str, str]
) -> None:
    tokenizer = trained(pattern)
    peer = hugging_face(tokenizer)

    def check(text: str) -> None:
        ids, offsets = tokenizer.encode_with_offsets(text)
        expected = peer.encode(text)
        assert ids == expected.ids == tokenizer.encode_ordinary(text)
        for number, ours, theirs in zip(ids, offsets, expected.offsets, strict=True):
            # A token with parts of characters has all of each; there the peer has its own ideas.
            if tokenizer.token_bytes(number).decode(errors="replace").count("\ufffd") == 0:
                assert ours == theirs

    for text in texts.values():
        check(text[:10_000])

    @settings(max_examples=60, deadline=None)
    @given(LONG_TEXT)
    def on_any_text(text: str) -> None:
        check(text)

    on_any_text()


@settings(max_examples=100, deadline=None)
@given(text=LONG_TEXT | st.text())
def test_the_characters_of_a_token_hold_its_bytes(trained: Trained, text: str) -> None:
    tokenizer = trained("o200k")
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert len(ids) == len(offsets)
    position = 0
    for number, (start, end) in zip(ids, offsets, strict=True):
        token, characters = tokenizer.token_bytes(number), text[start:end].encode()
        begun = len(text[:start].encode())
        # The characters are all that the token's bytes touch, and no more.
        assert begun <= position < begun + len(text[start].encode())
        assert characters[position - begun :].startswith(token)
        position += len(token)
        assert begun + len(text[start : end - 1].encode()) < position <= begun + len(characters)
    for (_, end), (start, _) in pairwise(offsets):
        assert start in (end, end - 1)
    if text:
        assert offsets[0][0] == 0 and offsets[-1][1] == len(text)


@settings(max_examples=100, deadline=None)
@given(document=LONG_BYTES | st.binary())
def test_offsets_in_bytes_are_the_tokens_bytes(trained: Trained, document: bytes) -> None:
    tokenizer = trained("cl100k")
    ids, offsets = tokenizer.encode_with_offsets(document)
    assert [document[start:end] for start, end in offsets] == [tokenizer.token_bytes(number) for number in ids]
    assert b"".join(document[start:end] for start, end in offsets) == document


def test_a_character_of_several_tokens_belongs_to_each() -> None:
    tokenizer = Tokenizer.train([], 256, special_tokens=())
    assert tokenizer.encode_with_offsets("aé🙂")[1] == [(0, 1), (1, 2), (1, 2), *[(2, 3)] * 4]
    assert tokenizer.encode_with_offsets("é".encode())[1] == [(0, 1), (1, 2)]
    assert tokenizer.encode_with_offsets("") == ([], [])


@given(text=st.text(st.characters() | st.characters(categories=["Cs"]), max_size=30))
def test_surrogates_have_places_too(trained: Trained, text: str) -> None:
    tokenizer = trained("gpt2")
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert ids == tokenizer.encode_ordinary(text) and len(ids) == len(offsets)
    assert all(0 <= start < end for start, end in offsets)


def test_places_are_those_in_the_changed_text(trained: Trained) -> None:
    composed = Tokenizer(replace(trained("qwen2").definition, compose=True))
    assert composed.encode_with_offsets("e\u0301 x") == composed.encode_with_offsets("é x")
    spaced = Tokenizer(replace(trained("gpt2").definition, add_prefix_space=True))
    assert spaced.encode_with_offsets("the x") == spaced.encode_with_offsets(" the x")
