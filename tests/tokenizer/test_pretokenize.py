from itertools import accumulate, pairwise

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from groundup.errors import UserError
from groundup.tokenizer.pretokenize import (
    PATTERNS,
    as_bytes,
    as_text,
    as_utf8,
    resolve_pattern,
    splitter,
    sure_cut,
)

from .strategies import ANY_CHARACTER, LONG_BYTES, LONG_TEXT

CUSTOM = {"gaps": r"[a-z]+|\d", "groups": r"(a|b)(c)?", "empty matches": r"b*", "look-around": r"(?<=a)b|\s(?=\S)"}


def isolated(pattern: str, text: str) -> list[str]:
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return [piece for piece, _ in split.pre_tokenize_str(text)]


def mixed(fragments: list[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(fragments) | ANY_CHARACTER).map("".join)


@pytest.mark.parametrize("pattern", [*PATTERNS.values(), *CUSTOM.values()], ids=[*PATTERNS, *CUSTOM])
def test_pieces_are_those_of_hugging_face(pattern: str, texts: dict[str, str], fragments: list[str]) -> None:
    split = splitter(pattern)
    for text in texts.values():
        assert split(text) == isolated(pattern, text)

    @settings(max_examples=150, deadline=None)
    @given(mixed(fragments))
    def on_any_text(text: str) -> None:
        assert split(text) == isolated(pattern, text)

    on_any_text()


@pytest.mark.parametrize("pattern", [*PATTERNS.values(), *CUSTOM.values()], ids=[*PATTERNS, *CUSTOM])
@settings(max_examples=200, deadline=None)
@given(document=st.text(st.characters(codec="utf-8")) | st.binary())
def test_pieces_cover_every_text(pattern: str, document: str | bytes) -> None:
    text = as_text(document)
    pieces = splitter(pattern)(text)
    assert "".join(pieces) == text
    assert all(pieces)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("cl1O0k", "did you mean 'cl100k'"),
        ("", "known: cl100k"),
        ("[a", "not a regular expression"),
        ("\ud800|x", "not a regular expression"),
        (r"\d{1,3}+|.", r"possessive \{n,m\}\+"),
    ],
)
def test_unusable_patterns_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        resolve_pattern(pattern)
    assert "\n" not in str(caught.value)


def test_possessive_intervals_are_refused_because_hugging_face_reads_them_otherwise() -> None:
    assert isolated(r"\d{1,3}+", "123456") == ["123456"]
    assert (
        isolated(resolve_pattern(r"(?>\d{1,3})"), "123456") == splitter(r"(?>\d{1,3})")("123456") == ["123", "456"]
    )


@given(st.binary())
def test_text_gives_any_bytes_back(document: bytes) -> None:
    assert as_bytes(as_text(document)) == document


@given(st.text(st.characters() | st.characters(categories=["Cs"])))
def test_lone_surrogates_are_replaced_as_tiktoken_does(document: str) -> None:
    # U+DC80..U+DCFF mean bytes that are not UTF-8, which tiktoken does not know.
    document = "".join(character for character in document if not "\udc80" <= character <= "\udcff")
    bytewise = tiktoken.Encoding(
        "bytes", pat_str=".|\n", mergeable_ranks={bytes([byte]): byte for byte in range(256)}, special_tokens={}
    )
    assert as_bytes(as_text(document)) == bytes(bytewise.encode_ordinary(document))


@given(st.text(st.characters() | st.characters(categories=["Cs"])) | st.binary())
def test_bytes_of_a_document_are_those_of_its_text(document: str | bytes) -> None:
    assert as_utf8(document) == as_bytes(as_text(document))


# Words, digits, Han and white space: there the places are.
CUTTABLE = st.lists(
    st.sampled_from(["a", "Z", "7", "中", "文x", "。", "，", "”", ".", "'s", "/", " ", "  ", "\t"])
    | st.sampled_from(
        ["\n", "\r", "\r\n", "\n\n", "a\n", "。\n中", "x\nY", " \nA", "é", "é\n", "\u0301", "\u3000\n"]
    )
    | ANY_CHARACTER,
    min_size=8,
    max_size=60,
).map("".join)


@settings(max_examples=200, deadline=None)
@given(text=(CUTTABLE | LONG_TEXT).map(str.encode) | LONG_BYTES, data=st.data())
def test_a_sure_cut_changes_no_piece(text: bytes, data: st.DataObject) -> None:
    places, end = [0], len(text)
    while (place := sure_cut(text, 0, end)) > 0:
        assert place < end
        places.append(place)
        end = place
    start, end = sorted(data.draw(st.tuples(st.sampled_from(places), st.integers(0, len(text)))))
    place = sure_cut(text, start, end)
    assert place == start or (start < place < end and place in places)
    chosen = sorted(data.draw(st.sets(st.sampled_from(places))))
    parts = [text[start:end] for start, end in pairwise([0, *chosen, len(text)])]
    for pattern in PATTERNS.values():
        split = splitter(pattern)
        whole = [as_bytes(piece) for piece in split(as_text(text))]
        assert set(places) <= {0, *accumulate(map(len, whole))}
        assert [as_bytes(piece) for part in parts for piece in split(as_text(part))] == whole


def test_sure_cuts_are_many_in_real_text(texts: dict[str, str]) -> None:
    for text in texts.values():
        data = text.encode()
        start = 0
        while len(data) - start > 20_000:
            place = sure_cut(data, start, start + 20_000)
            assert place > start
            start = place
    assert sure_cut(b"x" * 100_000, 0, 100_000) == 0
    assert sure_cut(b"ab cd" + b"x" * 100_000, 0, 100_005) == 2
