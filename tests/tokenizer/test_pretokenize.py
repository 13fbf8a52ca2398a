import weakref
from collections import Counter
from collections.abc import Iterator

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
    count_pieces,
    resolve_pattern,
    splitter,
)

# The engines carry different versions of Unicode: they disagree on code points that Python 3.11's Unicode 14 has
# not assigned, and on U+0295, which later became an uppercase-less letter (Lo).
SHARED_UNICODE = st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="\u0295")
CUSTOM = {"gaps": r"[a-z]+|\d", "groups": r"(a|b)(c)?", "empty matches": r"b*", "look-around": r"(?<=a)b|\s(?=\S)"}


def isolated(pattern: str, text: str) -> list[str]:
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return [piece for piece, _ in split.pre_tokenize_str(text)]


def mixed(fragments: list[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(fragments) | SHARED_UNICODE).map("".join)


@pytest.mark.parametrize("pattern", [*PATTERNS.values(), *CUSTOM.values()], ids=[*PATTERNS, *CUSTOM])
def test_pieces_are_those_of_hugging_face(pattern: str, texts: dict[str, str], fragments: list[str]) -> None:
    split = splitter(pattern)
    for text in texts.values():
        assert split(text) == isolated(pattern, text)

    @settings(max_examples=300, deadline=None)
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


def test_counts_are_those_of_hugging_face(texts: dict[str, str]) -> None:
    pattern = PATTERNS["cl100k"]
    expected = Counter(piece.encode() for text in texts.values() for piece in isolated(pattern, text))
    assert count_pieces(texts.values(), pattern) == expected


def test_the_same_bytes_are_counted_together() -> None:
    counts = count_pieces(["é", "\udcc3\udca9"], PATTERNS["cl100k"])
    assert counts == {"é".encode(): 2}


def test_documents_are_dropped_after_counting() -> None:
    class Document(str):
        __slots__ = ("__weakref__",)

    alive: weakref.WeakSet[Document] = weakref.WeakSet()
    most = 0

    def stream() -> Iterator[str]:
        nonlocal most
        for number in range(20):
            document = Document(f"document {number}")
            alive.add(document)
            most = max(most, len(alive))
            yield document

    counts = count_pieces(stream(), PATTERNS["gpt2"])
    assert counts[b"document"] == 20
    assert most <= 2


def test_progress_rises_to_one_where_the_length_is_known() -> None:
    seen: list[float] = []
    count_pieces(["a", "b", "c", "d"], PATTERNS["gpt2"], seen.append)
    assert seen == [0.25, 0.5, 0.75, 1.0]
