"""Tokenizers that the package `tokenizers` trains and runs, WordPiece and Unigram, used as our own."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from groundup.errors import UserError
from groundup.files import fingerprint, write_atomically
from groundup.tokenizer.definition import Usage, end_of_text
from groundup.tokenizer.library_recipes import (
    ROLES,
    SPECIAL_TOKENS,
    Algorithm,
    cuts_at_spaces,
    never_choosing,
    read_library,
    surround,
    trainer,
    untrained,
)
from groundup.tokenizer.library_texts import cut_at_spaces, decoded, training_texts, valid_text
from groundup.tokenizer.model_folder import read_chat_templates, read_roles, write_config
from groundup.tokenizer.special import Special, refuse, resolve


class LibraryTokenizer:
    """A tokenizer of the package `tokenizers`, with the methods of `Tokenizer`; its texts must be valid Unicode.

    WordPiece and SentencePiece's Unigram do not give every text back: they drop or change white space, case and
    characters that they do not know. Bytes that are not UTF-8, and lone surrogates, are read as U+FFFD.

    The package counts in tables of random order: of two trainings on the same text, ties can end differently.
    """

    def __init__(self, content: str, usage: Usage | None = None) -> None:
        """`content` is a tokenizer.json; ValueError if the package does not read it."""
        self._marking, self._plain = read_library(content), read_library(content)
        self._plain.encode_special_tokens = True
        self._content = self._marking.to_str()
        self._usage = usage or Usage()

    @classmethod
    def train(
        cls,
        documents: Iterable[str | bytes | Path],
        vocabulary_size: int,
        algorithm: Algorithm = "wordpiece",
        special_tokens: Sequence[str] | None = None,
        *,
        lowercase: bool = False,
        min_frequency: int = 0,
        progress: Callable[[float], None] | None = None,
    ) -> Self:
        """Learn a vocabulary from documents, which are read once.

        Args:
            documents: strings, bytes of UTF-8, or files, each one document.
            vocabulary_size: V; fewer tokens if the documents do not offer so many.
            algorithm: "wordpiece" (BERT), "unigram" (SentencePiece's form) or "unigram-bytes" (loses nothing).
            special_tokens: get the first ids; None: those of BERT or T5, see `SPECIAL_TOKENS`.
            lowercase: text is brought to lower case first, and for WordPiece loses its accents.
            min_frequency: pairs that occur less often are not merged; only for WordPiece.
            progress: called with the fraction of documents read, if their number is known, and 1 at the end.

        Raises UserError for unusable arguments.
        """
        if isinstance(documents, str | bytes | Path):
            raise UserError(f"documents is one {type(documents).__name__}; give a list of documents")
        if special_tokens is None:
            special_tokens = SPECIAL_TOKENS.get(algorithm, ())
        if isinstance(special_tokens, str) or len(set(special_tokens)) < len(special_tokens):
            raise UserError(
                f"special_tokens {special_tokens!r} is no list of distinct strings; give each name once"
            )
        if vocabulary_size <= len(special_tokens):
            raise UserError(
                f"vocabulary_size {vocabulary_size} leaves no place beside the special tokens; raise it"
            )
        tokenizer = untrained(algorithm, special_tokens, lowercase)
        made = trainer(algorithm, vocabulary_size, special_tokens, min_frequency)
        try:
            tokenizer.train_from_iterator(training_texts(documents, progress), made)
        except UserError:
            raise
        except Exception as error:  # the package raises no narrower class
            raise UserError(f"cannot train {algorithm} with vocabulary_size {vocabulary_size}: {error}") from None
        if (size := tokenizer.get_vocab_size()) > vocabulary_size:
            raise UserError(
                f"vocabulary_size {vocabulary_size} is too small: the documents' characters alone make {size}"
            )
        surround(tokenizer)
        if progress:
            progress(1.0)
        roles = {ROLES[token]: token for token in special_tokens if token in ROLES}
        return cls(tokenizer.to_str(), Usage(roles=roles))

    train_from_iterator = train

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a tokenizer.json, or that of a folder, of any kind that the package knows; else UserError."""
        path = Path(path)
        file = path / "tokenizer.json" if path.is_dir() else path
        try:
            tokenizer = cls(file.read_text("utf-8"))
        except OSError as error:
            raise UserError(f"cannot read {file}: {error.strerror}; give a tokenizer.json or its folder") from None
        except ValueError as error:
            raise UserError(f"{file} is not read by the package tokenizers: {error}") from None
        roles = read_roles(file.parent, tokenizer.special_tokens)
        tokenizer._usage = Usage(roles=roles, chat_templates=read_chat_templates(file.parent))
        return tokenizer

    def save(self, folder: Path, model_max_length: int | None = None) -> None:
        """Write tokenizer.json and tokenizer_config.json, which `transformers` and `tokenizers` read."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "tokenizer.json", self._content)
        write_config(folder, self._usage, model_max_length=model_max_length)

    def encode(
        self,
        text: str | bytes,
        allowed_special: Special = frozenset(),
        disallowed_special: Special = "all",
    ) -> list[int]:
        """The ids of a text; special tokens are treated as by `Tokenizer.encode`.

        Raises UserError also if a text holds some special tokens that are allowed and some that shall be plain.
        """
        text = valid_text(text)
        return self._encoder(text, allowed_special, disallowed_special).encode(text, add_special_tokens=False).ids

    def _encoder(self, text: str, allowed_special: Special, disallowed_special: Special) -> Any:
        allowed, disallowed = resolve(self.special_tokens, allowed_special, disallowed_special)
        refuse(text.encode(), disallowed)
        present = {token for token in self.special_tokens if token in text}
        if not present & allowed:
            return self._without_special if present else self._plain
        if mixed := present - allowed:
            raise UserError(
                f"the text holds allowed special tokens and '{min(mixed)}' as plain text; allow all or none"
            )
        return self._marking

    @cached_property
    def _without_special(self) -> Any:
        """For plain text that has the name of a special token: Unigram would take the name for the token."""
        tokenizer = read_library(never_choosing(self._content, self.special_tokens))
        tokenizer.encode_special_tokens = True
        return tokenizer

    def encode_ordinary(self, text: str | bytes) -> list[int]:
        """The ids of a text in which special tokens are plain text."""
        return self.encode(text, disallowed_special=frozenset())

    def encode_array(self, text: str | bytes) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        """`encode_ordinary` as an array, uint32 (T,)."""
        return np.array(self.encode_ordinary(text), dtype=np.uint32)

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """`encode_ordinary`, and the characters from which each id comes: first, and one after the last."""
        text = valid_text(text)
        encoding = self._encoder(text, frozenset(), frozenset()).encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def encode_batch(
        self,
        texts: Iterable[str | bytes],
        allowed_special: Special = frozenset(),
        disallowed_special: Special = "all",
    ) -> list[list[int]]:
        """`encode` for each text."""
        return [self.encode(text, allowed_special, disallowed_special) for text in texts]

    def encode_iterable(
        self,
        chunks: Iterable[str | bytes],
        allowed_special: Special = frozenset(),
        disallowed_special: Special = "all",
    ) -> Iterator[int]:
        """The ids of one text that comes in pieces, such as an open file: those of `encode` of the whole.

        Holds the longest stretch without a space between letters in memory; the whole text if the tokenizer is not
        known to cut there.
        """
        texts = decoded(chunks)
        for text in cut_at_spaces(texts) if self._cuts_at_spaces else ["".join(texts)]:
            yield from self.encode(text, allowed_special, disallowed_special)

    @cached_property
    def _cuts_at_spaces(self) -> bool:
        return cuts_at_spaces(self._content) and not any(" " in token for token in self.special_tokens)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, as the package gives it; UserError for an unknown id."""
        known = [int(number) for number in ids]
        if unknown := [number for number in known if number not in self._ids]:
            raise UserError(
                f"id {unknown[0]} is not in the vocabulary; give ids from 0 to {self.vocabulary_size - 1}"
            )
        return self._marking.decode(known, skip_special_tokens=False)

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """The text of ids as they come: joined it is what `decode` gives, and no character is ever split."""
        window: list[int] = []
        said = 0
        for number in ids:
            window.append(number)
            text = self.decode(window)
            if not text.endswith("\ufffd"):
                if len(text) > said:
                    yield text[said:]
                window = window[-1:]
                said = len(self.decode(window))
        if len(text := self.decode(window)) > said:
            yield text[said:]

    @cached_property
    def _ids(self) -> frozenset[int]:
        return frozenset(self._marking.get_vocab(with_added_tokens=True).values())

    @property
    def vocabulary_size(self) -> int:
        """V: one more than the highest id."""
        return max(self._ids) + 1

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Special tokens and their ids."""
        added = self._marking.get_added_tokens_decoder().items()
        return {token.content: number for number, token in added if token.special}

    @property
    def mask_token(self) -> int:
        """The id that hides a token (BERT's `[MASK]`); UserError if there is none."""
        return self._of_role("mask_token")

    @property
    def pad_token(self) -> int:
        """The id that fills up a row; UserError if there is none."""
        return self._of_role("pad_token")

    def _of_role(self, role: str) -> int:
        by_name = {ROLES[token]: token for token in self.special_tokens if token in ROLES}
        if (token := (by_name | dict(self._usage.roles)).get(role)) is None:
            raise UserError(
                f"the tokenizer has no {role}; train it with special_tokens '[MASK]', '[PAD]' and so on"
            )
        return self.special_tokens[token]

    @property
    def end_of_text(self) -> int:
        """The id that ends a document: `</s>`, or BERT's `[SEP]`; UserError if there is none."""
        if (name := end_of_text(self.special_tokens, self._usage.roles)) is not None:
            return self.special_tokens[name]
        return self._of_role("sep_token")

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name all that decides the ids."""
        return fingerprint(json.loads(self._content))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LibraryTokenizer) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[type[Self], tuple[str, Usage]]:
        return type(self), (self._content, self._usage)

    def __repr__(self) -> str:
        return f"<LibraryTokenizer: {self.vocabulary_size} tokens, {self.fingerprint}>"
