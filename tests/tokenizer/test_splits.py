import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from groundup.tokenizer.pretokenize import PATTERNS, splitter
from groundup.tokenizer.splits import splitter_in_turn

SEQUENCES = [
    (r"\p{N}{1,3}", "[一-龥]+", PATTERNS["cl100k"]),
    (r"\s+\z|b", r"\s+(?!\S)|\s", r"\Aa|a\z"),
    (PATTERNS["gpt2"], PATTERNS["gpt2"]),
]


@pytest.mark.parametrize("patterns", SEQUENCES)
@given(text=st.text("ab1中 \n!") | st.text("aé٣  \r\n'sS"))
def test_pieces_are_those_of_hugging_faces_sequence(patterns: tuple[str, ...], text: str) -> None:
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    expected = [piece for piece, _ in pre_tokenizers.Sequence(splits).pre_tokenize_str(text)]
    assert splitter_in_turn(patterns)(text) == expected


@given(text=st.text("ab1 \n!中"))
def test_one_pattern_cuts_alone(text: str) -> None:
    assert splitter_in_turn((PATTERNS["gpt2"],))(text) == splitter(PATTERNS["gpt2"])(text)
