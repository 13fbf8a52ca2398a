"""The tokenizer: text to ids and back."""

from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Literal, Self
from unicodedata import normalize

import numpy as np
import regex

from groundup.errors import UserError
from groundup.files import fingerprint
from groundup.tokenizer.alphabet import BYTES_IN_ORDER, to_characters
from groundup.tokenizer.definition import Definition, end_of_text, standard_vocabulary
from groundup.tokenizer.encode import PieceEncoder
from groundup.tokenizer.files import read_definition, write_definition
from groundup.tokenizer.pretokenize import as_text, count_pieces, resolve_pattern, splitter
from groundup.tokenizer.train import train_merges

_COUNTING = 0.5  # the share of training's progress that counting takes
Special = AbstractSet[str] | Literal["all"]


class Tokenizer:
    """Byte-level BPE: any bytes become ids of 0..V-1 and the same bytes again.

    Two tokenizers are equal if they give the same ids to everything by the same rules: same merges, pattern,
    special tokens and ids.
    """

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._encoder = PieceEncoder(definition)
        self._split = splitter(definition.pattern)
        self._tokens = {number: token for token, number in definition.ids.items()}
        self._tokens |= {number: token.encode() for token, number in definition.special_tokens.items()}

    @classmethod
    def train(
        cls,
        documents: Iterable[str | bytes],
        vocabulary_size: int,
        pattern: str = "cl100k",
        special_tokens: Sequence[str] = ("<|endoftext|>",),
        progress: Callable[[float], None] | None = None,
    ) -> Self:
        """Learn merges from documents, which are read once, one after the other.

        Args:
            documents: strings, or bytes of UTF-8 (other bytes are kept as they are).
            vocabulary_size: 256 bytes + merges + special tokens; fewer if the documents offer no more merges.
            pattern: "gpt2", "cl100k", "qwen2", "o200k", or a regular expression (syntax of the package `regex`;
                keep to what Oniguruma reads alike if the saved files shall give Hugging Face the same ids).
            special_tokens: get the last ids, in this order.
            progress: called with the fraction done, 0..1; it moves while counting if `documents` has a length.

        Raises UserError for an unknown pattern, unusable special tokens, or too small a vocabulary.
        """
        if isinstance(documents, str | bytes):
            raise UserError(f"documents is one {type(documents).__name__}; give a list of documents")
        pattern = resolve_pattern(pattern)
        _check_special_tokens(special_tokens)
        num_merges = vocabulary_size - len(BYTES_IN_ORDER) - len(special_tokens)
        if num_merges < 0:
            raise UserError(
                f"vocabulary_size {vocabulary_size} is too small: 256 bytes and {len(special_tokens)} "
                f"special tokens need at least {256 + len(special_tokens)}"
            )
        counts = count_pieces(documents, pattern, progress and (lambda done: progress(done * _COUNTING)))
        merges = train_merges(
            counts, num_merges, progress and (lambda done: progress(_COUNTING + done * (1 - _COUNTING)))
        )
        vocabulary = standard_vocabulary(merges)
        if clashing := {to_characters(token) for token in vocabulary} & set(special_tokens):
            raise UserError(
                f"special token '{min(clashing)}' is also an ordinary token; "
                f"choose a name that no text has, such as '<|{min(clashing)}|>'"
            )
        special = {token: len(vocabulary) + number for number, token in enumerate(special_tokens)}
        return cls(Definition(pattern=pattern, merges=tuple(merges), special_tokens=special))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a byte-level BPE tokenizer.json, or that of a folder, ours or others'; UserError for all else."""
        return cls(read_definition(Path(path)))

    def save(self, folder: Path, model_max_length: int | None = None) -> None:
        """Write tokenizer.json and tokenizer_config.json, which `transformers` and `tokenizers` read.

        Args:
            folder: made if it does not exist; other files in it stay.
            model_max_length: tokens that the model takes at most, if that is known.
        """
        write_definition(Path(folder), self._definition, model_max_length)

    def encode(
        self,
        text: str | bytes,
        allowed_special: Special = frozenset(),
        disallowed_special: Special = "all",
    ) -> list[int]:
        """The ids of a text, as tiktoken's `encode` gives them.

        Args:
            text: a string, or bytes of UTF-8 (other bytes are kept as they are).
            allowed_special: special tokens whose text becomes their id.
            disallowed_special: special tokens whose text is refused; "all": all that are not allowed. What is
                neither is encoded as plain text.

        Raises UserError if the text holds a disallowed special token.
        """
        text = as_text(text)
        special_tokens = self._definition.special_tokens
        known = special_tokens.keys()
        allowed = known if allowed_special == "all" else known & allowed_special
        disallowed = known - allowed if disallowed_special == "all" else disallowed_special
        if disallowed and (found := _any_of(frozenset(disallowed)).search(text)):
            raise UserError(
                f"the text contains the special token '{found[0]}' at character {found.start()}; pass "
                "allowed_special={...} to encode it as one id, or disallowed_special=() to read it as plain text"
            )
        if not allowed:
            return self._encode_plain(text)
        ids, position = [], 0
        for found in _any_of(frozenset(allowed)).finditer(text):
            ids += self._encode_plain(text[position : found.start()])
            ids.append(special_tokens[found[0]])
            position = found.end()
        return ids + self._encode_plain(text[position:])

    def encode_ordinary(self, text: str | bytes) -> list[int]:
        """The ids of a text in which special tokens are plain text; `decode_bytes` gives all bytes back."""
        return self._encode_plain(as_text(text))

    def encode_batch(
        self,
        texts: Iterable[str | bytes],
        allowed_special: Special = frozenset(),
        disallowed_special: Special = "all",
    ) -> list[list[int]]:
        """`encode` for each text."""
        return [self.encode(text, allowed_special, disallowed_special) for text in texts]

    def _encode_plain(self, text: str) -> list[int]:
        if self._definition.compose:
            text = normalize("NFC", text)
        return list(chain.from_iterable(map(self._encoder.__getitem__, self._split(text))))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD. UserError for an unknown id."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids; a special token is its text. UserError for an unknown id."""
        try:
            return b"".join(map(self._tokens.__getitem__, ids))
        except KeyError as error:
            raise UserError(
                f"id {error} is not in the vocabulary; give ids from 0 to {self.vocabulary_size - 1}"
            ) from None

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """The text of ids as they come: joined it is what `decode` gives, and no character is ever split."""
        decoder = getincrementaldecoder("utf-8")("replace")
        for number in ids:
            if text := decoder.decode(self.token_bytes(number)):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text

    def token_bytes(self, id: int) -> bytes:
        """The bytes of one token; a special token is its text. UserError for an unknown id."""
        return self.decode_bytes([id])

    @cached_property
    def vocabulary_size(self) -> int:
        """V: one more than the highest id."""
        return max(self._tokens) + 1

    @cached_property
    def byte_lengths(self) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        """Bytes of text that each id stands for, int32 (V,); 0 for special tokens. For bits per byte."""
        lengths = np.zeros(self.vocabulary_size, dtype=np.int32)
        for token, number in self._definition.ids.items():
            lengths[number] = len(token)
        lengths.flags.writeable = False
        return lengths

    @property
    def special_tokens(self) -> dict[str, int]:
        """Special tokens and their ids."""
        return dict(self._definition.special_tokens)

    @property
    def end_of_text(self) -> int:
        """The id that ends a document; UserError if there is none."""
        if (name := end_of_text(self.special_tokens)) is None:
            raise UserError("the tokenizer has no end-of-text token; train it with special_tokens '<|endoftext|>'")
        return self.special_tokens[name]

    @property
    def pattern(self) -> str:
        """The regular expression that cuts text into pieces."""
        return self._definition.pattern

    @property
    def merges(self) -> list[tuple[bytes, bytes]]:
        """The merges in order of rank."""
        return list(self._definition.merges)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name all that decides the ids."""
        definition = self._definition
        return fingerprint(
            {
                "pattern": definition.pattern,
                "merges": [[left.hex(), right.hex()] for left, right in definition.merges],
                "ids": {token.hex(): number for token, number in definition.ids.items()},
                "special_tokens": dict(definition.special_tokens),
                "whole_pieces": definition.whole_pieces,
                "compose": definition.compose,
            }
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self._definition == other._definition

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[type[Self], tuple[Definition]]:
        return type(self), (self._definition,)

    def __repr__(self) -> str:
        return f"<Tokenizer: {self.vocabulary_size} tokens, {self.fingerprint}>"


def _check_special_tokens(special_tokens: Sequence[str]) -> None:
    if isinstance(special_tokens, str):
        raise UserError(f"special_tokens is the string '{special_tokens}'; give a list of strings")
    for number, token in enumerate(special_tokens):
        if not token or token.encode(errors="replace").decode() != token:
            raise UserError(
                f"special token {token!r} is empty or not valid Unicode; give it a name such as '<|x|>'"
            )
        if token in special_tokens[:number]:
            raise UserError(f"special token '{token}' is given twice; name it once")


@lru_cache(maxsize=16)
def _any_of(tokens: frozenset[str]) -> regex.Pattern[str]:
    """Finds any of the tokens, the longest where several start at the same character."""
    return regex.compile("|".join(regex.escape(token) for token in sorted(tokens, key=len, reverse=True)))
