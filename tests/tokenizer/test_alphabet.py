import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from groundup.tokenizer.alphabet import BYTES_IN_ORDER, from_characters, to_characters


def test_order_is_that_of_hugging_faces_alphabet() -> None:
    ours = [to_characters(bytes([byte])) for byte in BYTES_IN_ORDER]
    assert ours == sorted(pre_tokenizers.ByteLevel.alphabet())


@given(st.text(min_size=1))
def test_text_is_written_as_hugging_face_writes_it(text: str) -> None:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    assert to_characters(text.encode()) == "".join(piece for piece, _ in byte_level.pre_tokenize_str(text))


@given(st.binary())
def test_round_trip(token: bytes) -> None:
    assert from_characters(to_characters(token)) == token


@pytest.mark.parametrize("foreign", ["a b", "中", "\u00ad"])
def test_foreign_characters_are_named(foreign: str) -> None:
    with pytest.raises(ValueError, match="byte alphabet"):
        from_characters(foreign)
