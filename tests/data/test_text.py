import re
from io import BufferedReader, BytesIO
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.data import text
from groundup.data.text import Part, Split, check_split, cut_before, encode_text, read_parts, without_empty
from groundup.errors import UserError


def documents_of(data: bytes, split: Split) -> list[bytes]:
    documents, open_document = [], b""
    for part in read_parts(BufferedReader(BytesIO(data)), split):
        assert len(part.data) <= text.PART_BYTES
        open_document += part.data
        if part.ends_document:
            documents.append(open_document)
            open_document = b""
    assert not open_document
    return documents


@given(st.binary(max_size=60), st.integers(4, 70))
def test_cutting_again_and_again_gives_every_byte_in_bounded_parts(data: bytes, limit: int) -> None:
    rest, parts = data, []
    while rest:
        cut = cut_before(rest, limit)
        assert 1 <= cut <= limit
        parts.append(rest[:cut])
        rest = rest[cut:]
    assert b"".join(parts) == data


@given(st.text(alphabet="aé漢😀\n", min_size=1), st.integers(1, 40), st.integers(1, 40))
def test_a_cut_is_never_inside_a_character(characters: str, limit: int, reach: int) -> None:
    data = characters.encode()
    cut = cut_before(data, limit, reach)
    data[:cut].decode()
    data[cut:].decode()


def test_a_cut_prefers_the_last_line_break_within_reach() -> None:
    assert cut_before(b"one\ntwo\nthree", 11) == len(b"one\ntwo\n")
    assert cut_before(b"one\ntwo\nthree", 11, reach=2) == 11


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "PART_BYTES", 64)
    monkeypatch.setattr(text, "READ_BYTES", 16)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("split", get_args(Split))
@pytest.mark.parametrize("length", range(120, 160))
def test_long_documents_come_in_parts_that_join_to_them(split: Split, length: int) -> None:
    data = ("é\n漢字 and so on. " * 30).encode()[:length]
    assert documents_of(data, split) == [data]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("shift", range(20))
def test_separators_are_found_wherever_the_reads_fall(shift: int) -> None:
    first = b"x" * shift + b" <|endoft"
    data = first + b"<|endoftext|>\r\nsecond<|endoftext|>third <|endoftext|>\nfourth\n"
    assert documents_of(data, "endoftext") == [first, b"second", b"third ", b"fourth\n"]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("shift", range(20))
def test_blank_lines_separate_documents_and_keep_their_lines(shift: int) -> None:
    first = b"y" * (shift + 1) + b"\n  two\n"
    documents = documents_of(first + b"\n \t\r\n\n  three\r\n\r\nfour", "blank-lines")
    assert [document for document in documents if document] == [first, b"  three\r\n", b"four"]


@pytest.mark.usefixtures("small_parts")
def test_white_space_at_the_end_of_a_long_line_is_not_a_blank_line() -> None:
    data = b"z" * text.READ_BYTES + b"  \nmore\n"
    assert documents_of(data, "blank-lines") == [data]


@given(st.lists(st.binary(max_size=30)))
def test_endoftext_agrees_with_a_regular_expression(pieces: list[bytes]) -> None:
    data = b"<|endoftext|>".join(pieces)
    assert documents_of(data, "endoftext") == re.split(rb"<\|endoftext\|>(?:\r?\n)?", data)


def test_empty_documents_are_dropped_but_not_blank_parts_inside_long_ones() -> None:
    parts = [Part(b" \n"), Part(b"a", False), Part(b"\n\n", False), Part(b"b"), Part(b""), Part(b"c")]
    assert list(without_empty(iter(parts))) == [parts[1], parts[2], parts[3], parts[5]]


@given(st.binary())
def test_encode_text_inverts_surrogateescape(data: bytes) -> None:
    assert encode_text(data.decode("utf-8", "surrogateescape")) == data


def test_other_lone_surrogates_become_their_three_bytes() -> None:
    assert encode_text("a\ud800") == b"a\xed\xa0\x80"


def test_an_unknown_split_names_the_nearest() -> None:
    with pytest.raises(UserError, match="'blank-line' is unknown; did you mean 'blank-lines'"):
        check_split("blank-line")
