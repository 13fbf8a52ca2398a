from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.tokenizer import Tokenizer
from groundup.tokenizer.kinds import KINDS
from groundup.tokenizer.library import LibraryTokenizer
from groundup.tokenizer.statistics import Tally, figures

WHITE = KINDS[-1][0]
INVALID = "bytes that are not UTF-8"
# A set operation of `regex`: letters and marks, without those of scripts that do not write words apart.
APART = (
    r"[\p{Latin}\p{Hangul}\p{Cyrillic}\p{Greek}\p{Arabic}[\p{L}\p{M}--\p{Han}--\p{Hiragana}--\p{Katakana}"
    r"--\p{Thai}--\p{Lao}--\p{Khmer}--\p{Myanmar}]]"
)
SAMPLE = (
    "The naïve café's 3 rivers, über-long; Привет мир! 你好，世界。 สวัสดี ครับ 안녕 세상 かな カナ\n\n"
    "\tdef f(x1):  return x1 ** 2  # שלום עולם e\u0301 🙂\r\n"
)


def kind_of_character(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return INVALID
    return next(name for name, pattern in KINDS if regex.match(pattern, character))


def by_hand(tokenizer: Tokenizer, documents: list[bytes]) -> dict[str, Counter[str]]:
    """The counts by kind, a character and a token after the other, from the definitions of the figures."""
    counted: dict[str, Counter[str]] = {}

    def add(kind: str, **amounts: int) -> None:
        counted.setdefault(kind, Counter()).update(amounts)

    for document in documents:
        ids = tokenizer.encode_ordinary(document)
        text = tokenizer.decode_bytes(ids).decode("utf-8", "surrogateescape")
        of_byte, first_bytes, place = [], set(), 0
        starts_of_characters = []
        for character in text:
            width = len(character.encode("utf-8", "surrogateescape"))
            starts_of_characters.append(place)
            of_byte += [kind_of_character(character)] * width
            first_bytes.add(place)
            place += width
        for kind in of_byte:
            add(kind, bytes=1)
        borders, place = [], 0
        for number in ids:
            end = place + len(tokenizer.token_bytes(number))
            kind = next((kind for kind in of_byte[place:end] if kind != WHITE), WHITE)
            characters = sum(place <= first < end for first in first_bytes)
            add(kind, tokens=1, token_bytes=end - place, token_characters=characters)
            borders.append(place)
            place = end
        starts_of_characters.append(place)
        for word in regex.finditer(rf"(?V1){APART}+", text):
            start, end = starts_of_characters[word.start()], starts_of_characters[word.end()]
            inside = sum(start < border < end for border in borders)
            add(of_byte[start], words=1, whole_words=int(inside == 0), word_tokens=1 + inside)
    return counted


def measured(tokenizer: Tokenizer | LibraryTokenizer, documents: list[bytes]) -> dict[str, Any]:
    tally = Tally(tokenizer)
    tally.add(documents)
    return figures(tally)


def assert_as_by_hand(tokenizer: Tokenizer, documents: list[bytes]) -> None:
    result, expected = measured(tokenizer, documents), by_hand(tokenizer, documents)
    found = {row["kind"]: row for row in result["by_kind"]}
    assert {kind for kind, counts in expected.items() if counts["bytes"]} == found.keys()
    for kind, row in found.items():
        counts = expected[kind]
        assert (row["bytes"], row["tokens"], row["words"]) == (
            counts["bytes"],
            counts["tokens"],
            counts["words"],
        ), kind
        for field, part, whole in (
            ("bytes_per_token", "token_bytes", "tokens"),
            ("characters_per_token", "token_characters", "tokens"),
            ("tokens_per_word", "word_tokens", "words"),
            ("whole_words_share", "whole_words", "words"),
        ):
            assert row[field] == (counts[part] / counts[whole] if counts[whole] else None), (kind, field)
    assert sum(row["share"] for row in found.values()) == pytest.approx(1 if found else 0)


def test_figures_of_real_text_are_those_counted_by_hand(
    texts: dict[str, str], trained: Callable[[str], Tokenizer]
):
    documents = [text[:3000].encode() for text in texts.values()]
    assert_as_by_hand(trained("cl100k"), [*documents, SAMPLE.encode(), b"caf\xe9 \xff\xfe ok"])


@given(st.lists(st.text(max_size=30).map(str.encode) | st.sampled_from([SAMPLE.encode(), b"\xf0\x9f", b"a"])))
@settings(max_examples=100)
def test_figures_of_any_text_are_those_counted_by_hand(
    trained: Callable[[str], Tokenizer], documents: list[bytes]
):
    # A character must not come about across two documents.
    assert_as_by_hand(trained("gpt2"), [document + b"\n" for document in documents])


def test_totals(texts: dict[str, str], trained: Callable[[str], Tokenizer]):
    tokenizer = trained("cl100k")
    documents = [text.encode() for text in texts.values()]
    result = measured(tokenizer, documents)
    ids = Counter(number for document in documents for number in tokenizer.encode_ordinary(document))
    tokens = ids.total()
    assert result["tokens"] == tokens == sum(row["tokens"] for row in result["by_kind"])
    assert result["documents"] == 3
    assert result["bytes_per_token"] == sum(map(len, documents)) / tokens
    assert result["characters_per_token"] == sum(map(len, texts.values())) / tokens
    assert result["used_ids"] == len(ids)
    assert result["used_ids"] + result["unused_ids"] + len(tokenizer.special_tokens) == tokenizer.vocabulary_size
    assert [(row["id"], row["count"]) for row in result["most_frequent"]] == sorted(
        ids.items(), key=lambda item: (-item[1], item[0])
    )[:20]
    single = sum(count for number, count in ids.items() if len(tokenizer.token_bytes(number)) == 1)
    assert result["single_byte_share"] == single / tokens
    split = sum(count for number, count in ids.items() if "\ufffd" in tokenizer.decode([number]))
    assert result["partial_character_share"] == split / tokens
    longest = [len(tokenizer.token_bytes(row["id"])) for row in result["longest"]]
    assert longest == sorted(map(len, tokenizer_tokens(tokenizer)), reverse=True)[:20]
    assert all(ids[row["id"]] == 0 for row in result["unused"])


def tokenizer_tokens(tokenizer: Tokenizer) -> list[bytes]:
    special = set(tokenizer.special_tokens.values())
    return [tokenizer.token_bytes(number) for number in range(tokenizer.vocabulary_size) if number not in special]


def test_tallies_add_up(texts: dict[str, str], trained: Callable[[str], Tokenizer]):
    tokenizer = trained("cl100k")
    documents = [text[:5000].encode() for text in texts.values()]
    whole, first, second = Tally(tokenizer), Tally(tokenizer), Tally(tokenizer)
    whole.add(documents)
    first.add(documents[:1])
    first.add([])
    second.add([documents[1], b"", documents[2]])
    first += second
    assert figures(first) == figures(whole)


def test_a_word_does_not_reach_into_the_next_document(trained: Callable[[str], Tokenizer]):
    result = measured(trained("cl100k"), [b"one", b"two", b"three"])
    assert (result["words"], result["documents"]) == (3, 3)


def test_text_that_the_tokenizer_changes_first(trained: Callable[[str], Tokenizer]):
    tokenizer = Tokenizer(replace(trained("cl100k").definition, compose=True, add_prefix_space=True))
    assert_as_by_hand(tokenizer, [("e\u0301" * 50).encode(), SAMPLE.encode()])


def test_nothing_is_measured_on_nothing(trained: Callable[[str], Tokenizer]):
    result = measured(trained("cl100k"), [])
    assert result["tokens"] == 0
    assert result["bytes_per_token"] is result["tokens_per_word"] is None
    assert result["by_kind"] == result["most_frequent"] == []


@pytest.mark.parametrize("algorithm", ["wordpiece", "unigram", "unigram-bytes"])
def test_tokenizers_of_the_library(texts: dict[str, str], algorithm: Any):
    documents = [texts[name][:50_000].encode() for name in ("english", "code")] + ["naïve 🙂".encode()]
    tokenizer = LibraryTokenizer.train(documents, 500, algorithm)
    result = measured(tokenizer, documents)
    assert result["tokens"] == sum(len(tokenizer.encode_ordinary(document)) for document in documents)
    assert result["bytes_per_token"] == sum(map(len, documents)) / result["tokens"]
    words = sum(len(regex.findall(rf"(?V1){APART}+", document.decode())) for document in documents)
    assert result["words"] == words
    assert 1 <= result["tokens_per_word"] < 6
    assert 0 < result["used_share"] <= 1
