"""What decides a tokenizer's ids, and nothing that can be derived from it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from groundup.tokenizer.alphabet import BYTES_IN_ORDER

# Control characters but for tab and line ends, what is never in UTF-8, and leaders of planes with no characters.
_DISPENSABLE = frozenset({*range(0x20), 0x7F, 0xC0, 0xC1, 0xF1, 0xF2, *range(0xF5, 0x100)} - set(b"\t\n\r"))


@dataclass(frozen=True, kw_only=True)
class Usage:
    """How a model uses its tokens: what its folder says besides the ids of a text."""

    roles: Mapping[str, str] = field(default_factory=dict)
    """Special tokens by what they are for, as `transformers` names it: `{"eos_token": "<|im_end|>"}`."""
    chat_templates: Mapping[str, str] = field(default_factory=dict)
    """Jinja templates by name; a model's only one is `"default"`."""
    spoken_tokens: frozenset[str] = frozenset()
    """Special tokens that `transformers` keeps in the text when it skips special tokens (Qwen's `<think>`)."""
    post_processor: Mapping[str, Any] | None = None
    """What Hugging Face's libraries put around a text (Llama 3's `<|begin_of_text|>`), as in tokenizer.json."""

    @property
    def chat_template(self) -> str | None:
        """The template that is meant where none is named."""
        return self.chat_templates.get("default")


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A byte-level BPE tokenizer as data: what is saved, pickled, compared and fingerprinted."""

    pattern: str
    """The regular expression whose matches are the pieces; merges never cross a piece's borders."""
    further_patterns: tuple[str, ...] = ()
    """Each cuts the pieces that the one before it left, each piece as if it were the whole text (DeepSeek)."""
    merges: tuple[tuple[bytes, bytes], ...]
    """In order of rank: the lowest rank merges first."""
    special_tokens: Mapping[str, int]
    vocabulary: Mapping[bytes, int] | None = None
    """Ids of all tokens that are not special; None: bytes in GPT-2's order, then what each merge makes."""
    whole_pieces: bool = False
    """A piece that is in the vocabulary is one token, even if no merges lead there (Llama 3's files)."""
    compose: bool = False
    """Text is brought to Unicode's normal form C first (Qwen's files)."""
    add_prefix_space: bool = False
    """A text, and what follows a special token, gets a space in front if it has none and is not empty."""
    usage: Usage = field(default_factory=Usage, compare=False)

    @cached_property
    def ids(self) -> Mapping[bytes, int]:
        """Ids of all tokens that are not special."""
        return standard_vocabulary(self.merges) if self.vocabulary is None else self.vocabulary

    @cached_property
    def lacking(self) -> bytes:
        """The bytes that have no token: encoded, a text is without them."""
        return bytes(byte for byte in range(256) if bytes([byte]) not in self.ids)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in {"ids", "lacking"}}

    @property
    def patterns(self) -> tuple[str, ...]:
        """All patterns, in the order in which they cut."""
        return (self.pattern, *self.further_patterns)


def standard_vocabulary(merges: Iterable[tuple[bytes, bytes]]) -> dict[bytes, int]:
    """Ids as training gives them: 0..255 the bytes in GPT-2's order, then the merges' results in order."""
    vocabulary = {bytes([byte]): number for number, byte in enumerate(BYTES_IN_ORDER)}
    for left, right in merges:
        if (merged := left + right) not in vocabulary:
            vocabulary[merged] = len(vocabulary)
    return vocabulary


def check_tables(
    vocabulary: Mapping[bytes, int],
    merges: Iterable[tuple[bytes, bytes]],
    special_tokens: Mapping[str, int],
) -> None:
    """ValueError, saying why, unless bytes have ids, all merges their tokens, and no two tokens one id.

    Bytes that text has not, control characters and bytes outside UTF-8, may lack one (SmolLM2's files).
    """
    numbers = [*vocabulary.values(), *special_tokens.values()]
    if set(map(type, numbers)) - {int} or min(numbers, default=0) < 0 or max(numbers, default=0) >= 1 << 31:
        raise ValueError("an id is not a number from 0 to 2^31 - 1")
    if len(set(numbers)) != len(numbers):
        raise ValueError("two of its tokens have the same id")
    missing = [byte for byte in range(256) if bytes([byte]) not in vocabulary]
    if needed := [byte for byte in missing if byte not in _DISPENSABLE]:
        raise ValueError(f"its vocabulary lacks {len(missing)} of the 256 bytes, the first 0x{needed[0]:02X}")
    for left, right in merges:
        if left + right not in vocabulary or left not in vocabulary or right not in vocabulary:
            raise ValueError(f"its vocabulary lacks a token of the merge {left!r} + {right!r}")


def end_of_text(special_tokens: Mapping[str, int], roles: Mapping[str, str] | None = None) -> str | None:
    """The special token that ends a document: by GPT-2's, Llama 3's or RoBERTa's name for it, else by its role."""
    names = ["<|endoftext|>", "<|end_of_text|>", "</s>", (roles or {}).get("eos_token")]
    return next((name for name in names if name in special_tokens), None)
