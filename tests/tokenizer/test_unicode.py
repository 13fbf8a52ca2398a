from functools import cache
from itertools import pairwise

import pytest
import tiktoken
from tokenizers import Regex, pre_tokenizers

from groundup.tokenizer import unicode
from groundup.tokenizer.pretokenize import splitter

POINTS = "".join(chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000)
SPARSE = set(POINTS[::256])
CLASSES = {
    r"\p{L}": "UlL",
    r"\p{N}": "N",
    r"\p{M}": "M",
    r"[\p{Lu}\p{Lt}]": "U",
    r"\p{Ll}": "l",
    r"[\p{Lm}\p{Lo}]": "L",
    r"\s": "SR",
    r"[\r\n]": "R",
}


@pytest.fixture(scope="module", params=CLASSES)
def pattern(request: pytest.FixtureRequest) -> str:
    return request.param


@cache
def halves(pattern: str) -> tuple[str, str]:
    """By our table: all characters of a class, and all others."""
    runs = unicode.runs()
    ends = [start for start, _ in runs[1:]] + [0x110000]
    of_class = {
        point
        for (start, name), end in zip(runs, ends, strict=True)
        if name in CLASSES[pattern]
        for point in range(start, end)
    }
    inside = "".join(character for character in POINTS if ord(character) in of_class)
    return inside, "".join(character for character in POINTS if ord(character) not in of_class)


def test_classes_are_those_of_tiktoken(pattern: str) -> None:
    bytewise = tiktoken.Encoding(
        "bytes", pat_str=pattern, mergeable_ranks={bytes([byte]): byte for byte in range(256)}, special_tokens={}
    )
    assert bytes(bytewise.encode_ordinary(POINTS)).decode() == halves(pattern)[0]


def test_classes_are_those_of_hugging_face(pattern: str) -> None:
    inside, outside = halves(pattern)
    # Planes 4 to 13 and 15 to 16 hold nothing, or private characters: each 256th of them.
    outside = "".join(
        character for character in outside if ord(character) >> 16 in {0, 1, 2, 3, 14} or character in SPARSE
    )
    split = pre_tokenizers.Split(Regex(pattern + "+"), "removed")
    assert split.pre_tokenize_str(inside) == []
    assert [piece for piece, _ in split.pre_tokenize_str(outside)] == [outside]


def test_the_splitter_has_these_classes_whatever_the_version_of_regex(pattern: str) -> None:
    inside, outside = halves(pattern)
    split = splitter(pattern)
    assert split(inside) == list(inside)
    assert split(outside) == [outside]


def test_runs_are_in_order_and_differ_from_the_next() -> None:
    runs = unicode.runs()
    assert runs[0][0] == 0
    assert all(one[0] < other[0] and one[1] != other[1] for one, other in pairwise(runs))
    assert {name for _, name in runs} == set(unicode.CLASSES)


def test_a_frozen_text_has_a_character_for_each_character() -> None:
    assert len(unicode.frozen(POINTS)) == len(POINTS)
    text = "ASCII stays as it is: it is the same object"
    assert unicode.frozen(text) is text
    assert unicode.frozen("Ünïcödé 文 🙂") == "Ünïcödé 文 🙂"
