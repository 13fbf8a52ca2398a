"""What decides a tokenizer's ids, and nothing that can be derived from it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from groundup.tokenizer.alphabet import BYTES_IN_ORDER


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A byte-level BPE tokenizer as data: what is saved, pickled, compared and fingerprinted."""

    pattern: str
    """The regular expression whose matches are the pieces; merges never cross a piece's borders."""
    merges: tuple[tuple[bytes, bytes], ...]
    """In order of rank: the lowest rank merges first."""
    special_tokens: Mapping[str, int]
    vocabulary: Mapping[bytes, int] | None = None
    """Ids of all tokens that are not special; None: bytes in GPT-2's order, then what each merge makes."""
    whole_pieces: bool = False
    """A piece that is in the vocabulary is one token, even if no merges lead there (Llama 3's files)."""
    compose: bool = False
    """Text is brought to Unicode's normal form C first (Qwen's files)."""

    @property
    def ids(self) -> Mapping[bytes, int]:
        """Ids of all tokens that are not special."""
        return standard_vocabulary(self.merges) if self.vocabulary is None else self.vocabulary


def standard_vocabulary(merges: Iterable[tuple[bytes, bytes]]) -> dict[bytes, int]:
    """Ids as training gives them: 0..255 the bytes in GPT-2's order, then the merges' results in order."""
    vocabulary = {bytes([byte]): number for number, byte in enumerate(BYTES_IN_ORDER)}
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    return vocabulary


def end_of_text(special_tokens: Mapping[str, int]) -> str | None:
    """The special token that ends a document, under the name that GPT-2 and Qwen, Llama 3 or RoBERTa give it."""
    return next((name for name in ("<|endoftext|>", "<|end_of_text|>", "</s>") if name in special_tokens), None)
