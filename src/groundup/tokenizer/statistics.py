"""What a tokenizer makes of a text, in figures: how far it compresses, script by script, and which ids it uses.

Fertility and the share of whole words are those of Rust et al. 2021 (arXiv:2012.15613), where a word is a run of
letters of a script that writes words apart.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from groundup.errors import UserError
from groundup.tokenizer.kinds import INVALID, KINDS, WHITE_SPACE, in_words, kind_table
from groundup.tokenizer.library import LibraryTokenizer
from groundup.tokenizer.tokenizer import Tokenizer

AnyTokenizer = Tokenizer | LibraryTokenizer

_NAMES = (*(name for name, _ in KINDS), "bytes that are not UTF-8")
_COLUMNS = ("tokens", "token_bytes", "token_characters", "bytes", "words", "whole_words", "word_tokens")
_NUM_EXAMPLES = 20

_Ints = NDArray[np.int64]


class Tally:
    """Counts of what a tokenizer makes of a text; tallies of several texts add up.

    `num_bytes`, `num_characters` and `num_documents` are of the text as it was given. `ids` (V,) counts each id.
    `kinds` (kinds, columns) counts by kind of character: tokens, their bytes and characters (a token is of the
    kind of its first character that is not white space), bytes of text, words, words that are one token, and the
    tokens that words are spread over.
    """

    def __init__(self, tokenizer: AnyTokenizer) -> None:
        self.tokenizer = tokenizer
        self.num_bytes = self.num_characters = self.num_documents = 0
        self.ids = np.zeros(tokenizer.vocabulary_size, dtype=np.int64)
        self.kinds = np.zeros((len(_NAMES), len(_COLUMNS)), dtype=np.int64)

    def __iadd__(self, other: Self) -> Self:
        self.num_bytes += other.num_bytes
        self.num_characters += other.num_characters
        self.num_documents += other.num_documents
        self.ids += other.ids
        self.kinds += other.kinds
        return self

    def add(self, documents: Sequence[bytes]) -> None:
        """Count `documents`, megabytes at a time: the memory needed is about 20 times that of the text."""
        documents = [document for document in documents if document]
        self.num_bytes += sum(map(len, documents))
        self.num_characters += sum(map(_num_characters, documents))
        self.num_documents += len(documents)
        if isinstance(self.tokenizer, Tokenizer):
            ids, spans = _encode(self.tokenizer, documents)
        else:
            ids, spans = _encode_by_library(self.tokenizer, documents)
        self.ids += np.bincount(ids, minlength=len(self.ids))
        self.kinds += _by_kind(spans)


@dataclass(frozen=True)
class _Spans:
    """The tokens of several documents laid end to end: token i is the bytes from starts[i] to ends[i]."""

    text: bytes
    starts: _Ints
    ends: _Ints
    documents: _Ints
    """Where documents begin."""


def _encode(tokenizer: Tokenizer, documents: Sequence[bytes]) -> tuple[NDArray[np.uint32], _Spans]:
    encoded = [tokenizer.encode_array(document) for document in documents]
    ids = np.concatenate([np.zeros(0, np.uint32), *encoded])
    lengths = tokenizer.byte_lengths[ids].astype(np.int64)
    ends = np.cumsum(lengths)
    last_tokens = np.cumsum([0, *map(len, encoded)])
    # Not the text as it was given: a tokenizer may compose it first.
    text = tokenizer.decode_bytes(ids)
    return ids, _Spans(text, ends - lengths, ends, np.append(0, ends)[last_tokens[:-1]])


def _encode_by_library(
    tokenizer: LibraryTokenizer, documents: Sequence[bytes]
) -> tuple[NDArray[np.uint32], _Spans]:
    """The same; white space that the tokenizer drops is counted to the token behind it."""
    all_ids: list[int] = []
    ends: list[_Ints] = []
    texts: list[bytes] = []
    begins = [0]
    for document in documents:
        text = document.decode("utf-8", "replace")
        ids, offsets = tokenizer.encode_with_offsets(text)
        bytes_before = np.cumsum([0, *(len(character.encode()) for character in text)])
        last_characters = np.array([end for _, end in offsets], dtype=np.int64)
        ends.append(begins[-1] + bytes_before[np.maximum.accumulate(last_characters)])
        all_ids += ids
        texts.append(text.encode())
        begins.append(begins[-1] + len(texts[-1]))
    ends_of_all = np.concatenate([np.zeros(0, np.int64), *ends])
    starts = np.append(0, ends_of_all)[: len(ends_of_all)]
    return np.array(all_ids, np.uint32), _Spans(b"".join(texts), starts, ends_of_all, np.array(begins[:-1]))


def _num_characters(document: bytes) -> int:
    return len(document.decode("utf-8", "surrogateescape"))


def _by_kind(spans: _Spans) -> _Ints:
    """Rows and columns of `Tally.kinds`."""
    starts, ends = spans.starts, spans.ends
    characters = np.frombuffer(
        spans.text.decode("utf-8", "surrogateescape").encode("utf-32-le", "surrogatepass"), dtype="<u4"
    )
    kinds = kind_table()[characters]
    widths = np.where(kinds == INVALID, 1, 1 + np.searchsorted([0x80, 0x800, 0x10000], characters, "right"))
    kind_of_byte = np.repeat(kinds, widths)
    first_bytes = np.zeros(len(spans.text) + 1, dtype=np.int32)
    first_bytes[1 + np.cumsum(widths) - widths] = 1
    characters_before = np.cumsum(first_bytes, dtype=np.int32)

    kind_of_token = _kinds_of_tokens(kind_of_byte, starts, ends)
    columns = [
        _count(kind_of_token),
        _count(kind_of_token, ends - starts),
        _count(kind_of_token, characters_before[ends] - characters_before[starts]),
        _count(kind_of_byte),
        *_words(kind_of_byte, starts, spans.documents),
    ]
    return np.stack(columns, axis=1)


def _kinds_of_tokens(kind_of_byte: NDArray[np.uint8], starts: _Ints, ends: _Ints) -> NDArray[np.uint8]:
    """The kind of each token's first character that is not white space."""
    visible = np.append(np.flatnonzero(kind_of_byte != WHITE_SPACE), len(kind_of_byte))
    first = visible[np.searchsorted(visible, starts)]
    padded = np.append(kind_of_byte, np.uint8(WHITE_SPACE))
    return np.where(first < ends, padded[first], np.uint8(WHITE_SPACE))


def _words(kind_of_byte: NDArray[np.uint8], starts: _Ints, documents: _Ints) -> tuple[_Ints, _Ints, _Ints]:
    """By kind of their first letter: words, words that are one token, tokens that words are spread over."""
    inside = in_words()[kind_of_byte]
    begins = inside & ~np.append(False, inside[:-1])[: len(inside)]
    begins[documents] = inside[documents]
    kind_of_word = kind_of_byte[begins]
    starts = starts[starts < len(inside)]  # behind the text: parts of its last character
    # A word is spread over one token more than there are borders of tokens inside it.
    borders = starts[inside[starts] & ~begins[starts]]
    broken = np.searchsorted(np.flatnonzero(begins), borders) - 1
    words = _count(kind_of_word)
    return words, words - _count(kind_of_word[np.unique(broken)]), words + _count(kind_of_word[broken])


def _count(kinds: NDArray[np.uint8], weights: NDArray[Any] | None = None) -> _Ints:
    return np.bincount(kinds, weights, minlength=len(_NAMES)).astype(np.int64)


def figures(tally: Tally) -> dict[str, Any]:
    """All figures of a tally, as JSON can write them; None where there is nothing to divide by.

    `bytes`, `characters` and `tokens` of the text, `bytes_per_token`, `characters_per_token`; `tokens_per_word`
    (fertility), `whole_words_share`; `single_byte_share` and `partial_character_share`: of the tokens, those of
    one byte, and those that are not whole characters; `used_ids` and `used_share` of the vocabulary;
    `by_kind`: a row for each kind of character in the text; examples of tokens (`id`, `bytes` in hexadecimal,
    `text`, `count`): the `longest` of the vocabulary, the `most_frequent`, and of the `unused` merges
    the first learned.
    """
    tokenizer, ids = tally.tokenizer, tally.ids
    whole = tally.kinds.sum(axis=0)
    row = dict(zip(_COLUMNS, whole.tolist(), strict=True))
    lengths = _byte_lengths(tokenizer)
    ordinary = np.flatnonzero(lengths)
    unused = ordinary[ids[ordinary] == 0]
    partial = [number for number in np.flatnonzero(ids).tolist() if not _is_text(_token_bytes(tokenizer, number))]
    used = len(ordinary) - len(unused)
    return {
        "vocabulary_size": tokenizer.vocabulary_size,
        "documents": tally.num_documents,
        "bytes": tally.num_bytes,
        "characters": tally.num_characters,
        "tokens": row["tokens"],
        "bytes_per_token": _ratio(tally.num_bytes, row["tokens"]),
        "characters_per_token": _ratio(tally.num_characters, row["tokens"]),
        "words": row["words"],
        "tokens_per_word": _ratio(row["word_tokens"], row["words"]),
        "whole_words_share": _ratio(row["whole_words"], row["words"]),
        "single_byte_share": _ratio(int(ids[lengths == 1].sum()), row["tokens"]),
        "partial_character_share": _ratio(int(ids[partial].sum()), row["tokens"]),
        "used_ids": used,
        "unused_ids": len(unused),
        "used_share": _ratio(used, len(ordinary)),
        "by_kind": [_kind_figures(tally, kind) for kind in _kinds_in_text(tally)],
        "longest": _examples(tally, np.argsort(-lengths, kind="stable")),
        "most_frequent": _examples(tally, np.argsort(-ids, kind="stable")[: np.count_nonzero(ids)]),
        "unused": _examples(tally, unused[lengths[unused] > 1]),
    }


def _kinds_in_text(tally: Tally) -> list[int]:
    """The kinds that the text has, that with the most bytes first."""
    num_bytes = tally.kinds[:, _COLUMNS.index("bytes")]
    return [kind for kind in np.argsort(-num_bytes, kind="stable").tolist() if num_bytes[kind]]


def _kind_figures(tally: Tally, kind: int) -> dict[str, Any]:
    row = dict(zip(_COLUMNS, tally.kinds[kind].tolist(), strict=True))
    return {
        "kind": _NAMES[kind],
        "bytes": row["bytes"],
        "share": _ratio(row["bytes"], tally.kinds[:, _COLUMNS.index("bytes")].sum().item()),
        "tokens": row["tokens"],
        "bytes_per_token": _ratio(row["token_bytes"], row["tokens"]),
        "characters_per_token": _ratio(row["token_characters"], row["tokens"]),
        "words": row["words"],
        "tokens_per_word": _ratio(row["word_tokens"], row["words"]),
        "whole_words_share": _ratio(row["whole_words"], row["words"]),
    }


def _examples(tally: Tally, ids: NDArray[Any]) -> list[dict[str, Any]]:
    tokens = [(number, _token_bytes(tally.tokenizer, number)) for number in ids[:_NUM_EXAMPLES].tolist()]
    return [
        {
            "id": number,
            "bytes": token.hex(),
            "text": token.decode("utf-8", "replace"),
            "count": int(tally.ids[number]),
        }
        for number, token in tokens
    ]


def _token_bytes(tokenizer: AnyTokenizer, number: int) -> bytes:
    if isinstance(tokenizer, LibraryTokenizer):
        return tokenizer.decode([number]).encode()
    return tokenizer.token_bytes(number)


def _byte_lengths(tokenizer: AnyTokenizer) -> NDArray[np.int32]:
    """As `Tokenizer.byte_lengths`; of other tokens the bytes of what they are written as."""
    if isinstance(tokenizer, Tokenizer):
        return tokenizer.byte_lengths
    lengths = np.zeros(tokenizer.vocabulary_size, dtype=np.int32)
    special = set(tokenizer.special_tokens.values())
    for number in range(len(lengths)):
        if number not in special:
            with suppress(UserError):  # an id between others that is no token's
                lengths[number] = len(_token_bytes(tokenizer, number))
    return lengths


def _is_text(token: bytes) -> bool:
    try:
        token.decode()
    except UnicodeDecodeError:
        return False
    return True


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
