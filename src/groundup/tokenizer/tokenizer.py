"""The tokenizer: text to ids and back."""

import gc
import os
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Self
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from groundup.errors import UserError
from groundup.files import fingerprint
from groundup.tokenizer import special
from groundup.tokenizer.alphabet import BYTES_IN_ORDER, to_characters
from groundup.tokenizer.chat import apply_chat_template, choose_template
from groundup.tokenizer.decode import Decoder
from groundup.tokenizer.definition import Definition, Usage, end_of_text, standard_vocabulary
from groundup.tokenizer.encode import Ids, encode_parts, make_encoder
from groundup.tokenizer.files import read_definition, write_definition
from groundup.tokenizer.learn import Document, Options, learn_merges
from groundup.tokenizer.native import TIES
from groundup.tokenizer.offsets import token_offsets
from groundup.tokenizer.pretokenize import as_bytes, as_text, as_utf8, resolve_pattern
from groundup.tokenizer.special import Special
from groundup.tokenizer.stream import Chunks, whole_parts

_VIEWED_BYTES = 1 << 20  # of longer texts the result is a view of the array that was written to


@contextmanager
def _uncollected() -> Iterator[None]:
    """While hundreds of thousands of pairs are made, the collector would look through all of them many times."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Tokenizer:
    """Byte-level BPE: any bytes become ids of 0..V-1 and the same bytes again.

    Of other people's tokenizers some lack tokens for a few bytes that are in no text, which are then left out.

    Two tokenizers are equal if they give the same ids to everything by the same rules: same merges, pattern,
    special tokens and ids. One tokenizer may be used from many threads at once.
    """

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._encoder = make_encoder(definition)
        self._decoder = Decoder(definition)

    @classmethod
    def train(
        cls,
        documents: Iterable[Document],
        vocabulary_size: int,
        pattern: str = "cl100k",
        special_tokens: Sequence[str] = ("<|endoftext|>",),
        progress: Callable[[float], None] | None = None,
        *,
        min_frequency: int = 0,
        ties: str = "hf",
        threads: int | None = None,
    ) -> Self:
        """Learn merges from documents, which are read once, one after the other.

        Args:
            documents: strings, bytes of UTF-8 (other bytes are kept as they are), or paths of files, each of which
                is one document and is read in constant memory.
            vocabulary_size: 256 bytes + merges + special tokens; fewer if the documents offer no more merges.
            pattern: "gpt2", "cl100k", "qwen2", "o200k", or a regular expression (syntax of the package `regex`;
                keep to what Oniguruma reads alike if the saved files shall give Hugging Face the same ids).
            special_tokens: get the last ids, in this order.
            progress: called with the fraction done, 0..1; it moves while counting if `documents` has a length.
            min_frequency: pairs that occur less often are not merged.
            ties: the rule for equal counts, "hf", "raw" or "cs336" (see `train_merges`). The ids of the bytes are
                the same for all.
            threads: for counting; by default one a processor. The merges do not depend on it.

        Raises UserError for an unknown pattern or rule, unusable special tokens, or too small a vocabulary.
        """
        if isinstance(documents, str | bytes | Path):
            raise UserError(f"documents is one {type(documents).__name__}; give a list of documents")
        if ties not in TIES:
            raise UserError(f"unknown rule for ties '{ties}'; give {', '.join(TIES)}")
        special.check_special_tokens(special_tokens)
        num_merges = vocabulary_size - len(BYTES_IN_ORDER) - len(special_tokens)
        if num_merges < 0:
            raise UserError(
                f"vocabulary_size {vocabulary_size} is too small: 256 bytes and {len(special_tokens)} "
                f"special tokens need at least {256 + len(special_tokens)}"
            )
        options = Options(
            pattern=resolve_pattern(pattern),
            num_merges=num_merges,
            min_frequency=min_frequency,
            ties=ties,
            threads=threads or os.cpu_count() or 1,
        )
        merges = learn_merges(documents, options, progress)
        vocabulary = standard_vocabulary(merges)
        if clashing := {to_characters(token) for token in vocabulary} & set(special_tokens):
            raise UserError(
                f"special token '{min(clashing)}' is also an ordinary token; "
                f"choose a name that no text has, such as '<|{min(clashing)}|>'"
            )
        ids = {token: len(vocabulary) + number for number, token in enumerate(special_tokens)}
        return cls(Definition(pattern=options.pattern, merges=tuple(merges), special_tokens=ids))

    @classmethod
    def train_from_iterator(cls, iterator: Iterable[Document], vocabulary_size: int, **options: Any) -> Self:
        """`train`, under the name that Hugging Face's library has for it."""
        return cls.train(iterator, vocabulary_size, **options)

    @classmethod
    def load(
        cls,
        path: Path,
        pattern: str | None = None,
        special_tokens: Mapping[str, int] | Iterable[str] | None = None,
    ) -> Self:
        """Read a byte-level BPE tokenizer, ours or others', in any format of `read_definition`."""
        with _uncollected():
            return cls(read_definition(Path(path), pattern, special_tokens))

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
        data = as_utf8(text)
        known = self._definition.special_tokens
        allowed, disallowed = special.resolve(known, allowed_special, disallowed_special)
        special.refuse(data, disallowed)
        return self._encode_special(data, allowed).tolist()

    def encode_ordinary(self, text: str | bytes) -> list[int]:
        """The ids of a text in which special tokens are plain text; `decode_bytes` gives all bytes back."""
        return self.encode_array(text).tolist()

    def encode_array(self, text: str | bytes, *, threads: int = 1, out: Ids | None = None) -> Ids:
        """`encode_ordinary` as an array, uint32 (T,): the fast way, without an object for each id.

        Args:
            text: a string, or bytes of UTF-8 (other bytes are kept as they are).
            threads: a text of several megabytes is encoded in parts that no piece crosses; the ids are the same.
            out: uint32 with room for one id a byte, to be written to; the result is a view of it.
        """
        data = self._prepared(as_utf8(text))
        if out is None:
            ids = np.empty(len(data), np.uint32)
            count = encode_parts(self._encoder, data, ids, threads)
            return ids[:count] if len(data) > _VIEWED_BYTES else ids[:count].copy()
        if out.dtype != np.uint32 or out.ndim != 1 or len(out) < len(data) or not out.flags.c_contiguous:
            raise UserError(f"out must be a row of uint32 with room for {len(data)} ids, one for each byte")
        return out[: encode_parts(self._encoder, data, out, threads)]

    def encode_batch(
        self,
        texts: Iterable[str | bytes],
        allowed_special: Special = frozenset(),
        disallowed_special: Special = "all",
        *,
        threads: int | None = None,
    ) -> list[list[int]]:
        """`encode` for each text, on several threads, by default one a processor."""
        with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
            return list(pool.map(lambda text: self.encode(text, allowed_special, disallowed_special), texts))

    def encode_blocks(
        self,
        chunks: Chunks | IO[Any],
        allowed_special: Special = frozenset(),
        disallowed_special: Special = frozenset(),
        *,
        threads: int = 1,
    ) -> Iterator[Ids]:
        """The ids of one text that comes in chunks, as arrays, uint32: joined, the ids of the whole text.

        Args:
            chunks: an open file, or strings or bytes.
            allowed_special: as for `encode`.
            disallowed_special: as for `encode`, but by default nothing is refused.
            threads: as for `encode_array`.

        Memory is constant for the patterns that we name; with another, the whole text is held.
        """
        known = self._definition.special_tokens
        allowed, disallowed = special.resolve(known, allowed_special, disallowed_special)
        position = 0
        for data in whole_parts(chunks, (allowed, disallowed), self._encoder.cuts):
            special.refuse(data, disallowed, position)
            yield self._encode_special(data, allowed, threads, first=position == 0)
            position += len(as_text(data)) if disallowed else len(data)

    def encode_iterable(
        self,
        chunks: Chunks | IO[Any],
        allowed_special: Special = frozenset(),
        disallowed_special: Special = "all",
    ) -> Iterator[int]:
        """`encode` of one text that comes in chunks, id by id."""
        for ids in self.encode_blocks(chunks, allowed_special, disallowed_special):
            yield from ids.tolist()

    def encode_with_offsets(self, text: str | bytes) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of `encode_ordinary`, and where in the text each token's characters start and end.

        For bytes: where its bytes do. A token that holds a part of a character has all of it. If the tokenizer
        changes the text first (normal form C, a space in front, bytes without a token left out), places are those
        in the changed text.
        """
        data = as_utf8(text)
        ids = self.encode_array(data)
        left = self._prepared(data).translate(None, self._definition.lacking)
        return ids.tolist(), token_offsets(self.byte_lengths[ids], left, characters=isinstance(text, str))

    def _encode_special(self, data: bytes, allowed: frozenset[str], threads: int = 1, first: bool = True) -> Ids:
        """The ids of text with special tokens in it; `first`: nothing stands before it."""
        if not allowed and first:
            return self.encode_array(data, threads=threads)
        parts: list[Ids] = []
        for text, token in special.cut_out(data, allowed):
            prepared = self._prepared(text, spaced=first)
            ids = np.empty(len(prepared), np.uint32)
            parts.append(ids[: encode_parts(self._encoder, prepared, ids, threads)])
            if token is not None:
                parts.append(np.array([self._definition.special_tokens[token]], np.uint32))
            first = True
        return np.concatenate(parts)

    def _prepared(self, data: bytes, spaced: bool = True) -> bytes:
        """The text as the definition changes it before it is cut."""
        if self._definition.compose and not data.isascii():
            data = as_bytes(normalize("NFC", as_text(data)))
        if self._definition.add_prefix_space and spaced and data and not data.startswith(b" "):
            data = b" " + data
        return data

    def decode(self, ids: Iterable[int] | NDArray[np.integer]) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD. UserError for an unknown id."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int] | NDArray[np.integer]) -> bytes:
        """The bytes of ids; a special token is its text. UserError for an unknown id."""
        return self._decoder.bytes(ids)

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """The text of ids as they come: joined it is what `decode` gives, and no character is ever split."""
        decoder = getincrementaldecoder("utf-8")("replace")
        for number in ids:
            if text := decoder.decode(self._decoder.token(number)):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text

    def token_bytes(self, id: int) -> bytes:
        """The bytes of one token; a special token is its text. UserError for an unknown id."""
        return self._decoder.token(id)

    @property
    def vocabulary_size(self) -> int:
        """V: one more than the highest id."""
        return self._decoder.vocabulary_size

    @cached_property
    def byte_lengths(self) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        """Bytes of text that each id stands for, int32 (V,); 0 for special tokens. For bits per byte."""
        lengths = np.zeros(self.vocabulary_size, dtype=np.int32)
        for token, number in self._definition.ids.items():
            lengths[number] = len(token)
        lengths.flags.writeable = False
        return lengths

    @property
    def definition(self) -> Definition:
        """The tokenizer as data."""
        return self._definition

    @property
    def special_tokens(self) -> dict[str, int]:
        """Special tokens and their ids."""
        return dict(self._definition.special_tokens)

    @property
    def end_of_text(self) -> int:
        """The id that ends a document; UserError if there is none."""
        if (name := end_of_text(self._definition.special_tokens, self.usage.roles)) is None:
            raise UserError("the tokenizer has no end-of-text token; train it with special_tokens '<|endoftext|>'")
        return self._definition.special_tokens[name]

    @property
    def pattern(self) -> str:
        """The regular expression that cuts text into pieces."""
        return self._definition.pattern

    @property
    def merges(self) -> list[tuple[bytes, bytes]]:
        """The merges in order of rank."""
        return list(self._definition.merges)

    @property
    def usage(self) -> Usage:
        """How a model uses its tokens: roles, chat templates."""
        return self._definition.usage

    @property
    def chat_template(self) -> str | None:
        """The chat template in Jinja's language, None if there is none."""
        return self.usage.chat_template

    def with_usage(self, usage: Usage) -> Self:
        """The same tokenizer with other roles or chat templates."""
        return type(self)(replace(self._definition, usage=usage))

    def with_special_tokens(self, tokens: Iterable[str]) -> Self:
        """The same tokenizer with those of `tokens` that it lacks as special tokens; they get the next ids."""
        known = self._definition.special_tokens
        added = [token for token in dict.fromkeys(tokens) if token not in known]
        special.check_special_tokens(added)
        ids = range(self.vocabulary_size, self.vocabulary_size + len(added))
        return type(self)(
            replace(self._definition, special_tokens={**known, **dict(zip(added, ids, strict=True))})
        )

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = False,
        *,
        name: str | None = None,
        **variables: Any,
    ) -> str:
        """The text of a conversation, as `transformers` renders it; see `chat.apply_chat_template`.

        Args:
            messages: each with `role` and `content`.
            add_generation_prompt: end with the header of the assistant's turn.
            name: of the template, where there are several.
            variables: `tools`, `documents`, and what else the template reads.

        Encode the text with `allowed_special="all"`. Raises UserError if there is no template, or it fails.
        """
        template = choose_template(self.usage.chat_templates, name, bool(variables.get("tools")))
        return apply_chat_template(template, messages, self.usage.roles, add_generation_prompt, **variables)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name all that decides the ids."""
        definition = self._definition
        described: dict[str, Any] = {
            "pattern": definition.pattern,
            "merges": [[left.hex(), right.hex()] for left, right in definition.merges],
            "ids": {token.hex(): number for token, number in definition.ids.items()},
            "special_tokens": dict(definition.special_tokens),
            "whole_pieces": definition.whole_pieces,
            "compose": definition.compose,
        }
        if definition.further_patterns:
            described["further_patterns"] = definition.further_patterns
        if definition.add_prefix_space:
            described["add_prefix_space"] = True
        return fingerprint(described)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self._definition == other._definition

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[type[Self], tuple[Definition]]:
        return type(self), (self._definition,)

    def __repr__(self) -> str:
        return f"<Tokenizer: {self.vocabulary_size} tokens, {self.fingerprint}>"
