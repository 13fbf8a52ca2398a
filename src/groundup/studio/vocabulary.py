"""What a tokenizer has learned: its tokens by kind, its longest and first ones, and how it cuts a sentence."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import regex

from groundup.tokenizer import Tokenizer
from groundup.tokenizer.kinds import KINDS

_EXAMPLES = (
    ("English", "A language model learns to guess what comes next, again and again."),
    ("Chinese", "语言模型反复学习猜测下一个词是什么。"),
    ("Python", "def area(radius):\n    return 3.14159 * radius**2  # 圆的面积"),
)
_NUM_CHIPS = 24


def vocabulary_figures(folder: Path) -> dict[str, Any]:
    """What the page says about the tokenizer in `folder`; empty if there is none yet."""
    if not (folder / "tokenizer.json").is_file():
        return {}
    tokenizer = Tokenizer.load(folder)
    lengths = tokenizer.byte_lengths
    by_length = np.argsort(-lengths, kind="stable")[:_NUM_CHIPS]
    return {
        "vocabulary_size": tokenizer.vocabulary_size,
        "num_merges": len(tokenizer.merges),
        "special_tokens": list(tokenizer.special_tokens),
        "mean_token_bytes": float(lengths[lengths > 0].mean()),
        "longest": [visible(tokenizer.token_bytes(int(number))) for number in by_length if lengths[number]],
        "first_merges": [visible(left + right) for left, right in tokenizer.merges[:_NUM_CHIPS]],
        "kinds": _kinds(tokenizer),
        "examples": [_example(tokenizer, language, text) for language, text in _EXAMPLES],
    }


def _kinds(tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Tokens by the first kind of character that they hold, the most frequent kind first."""
    ordinary = np.flatnonzero(tokenizer.byte_lengths)
    counts = Counter(kind_of(tokenizer.token_bytes(int(number))) for number in ordinary)
    if tokenizer.special_tokens:
        counts["special tokens"] = len(tokenizer.special_tokens)
    whole = counts.total()
    return [{"name": kind, "tokens": tokens, "share": tokens / whole} for kind, tokens in counts.most_common()]


def kind_of(token: bytes) -> str:
    """The kind of a token: the first of `kinds.KINDS` of which it has a character, or a part of a character."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return "parts of characters"
    return next(kind for kind, pattern in KINDS if regex.search(pattern, text))


def visible(token: bytes) -> str:
    """The token with its white space made visible; in hexadecimal what no one can see: `⟨E5 9E⟩`, `⟨U+3000⟩`."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return f"⟨{token.hex(' ').upper()}⟩"
    marks = {" ": "␣", "\n": "↵", "\t": "⇥"}
    return "".join(marks.get(c, c if c.isprintable() else f"⟨U+{ord(c):04X}⟩") for c in text)


def _example(tokenizer: Tokenizer, language: str, text: str) -> dict[str, Any]:
    ids = tokenizer.encode_ordinary(text)
    tokens = [tokenizer.token_bytes(number) for number in ids]
    return {
        "language": language,
        "num_tokens": len(ids),
        "bytes_per_token": len(text.encode()) / len(ids),
        "tokens": [
            {"id": number, "text": visible(token), "ends_line": token.endswith(b"\n")}
            for number, token in zip(ids, tokens, strict=True)
        ],
    }
