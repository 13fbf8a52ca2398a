"""Where two tokenizers differ, told in a few words."""

from groundup.tokenizer.load import AnyTokenizer
from groundup.tokenizer.tokenizer import Tokenizer

_RULES = ("pattern", "further_patterns", "whole_pieces", "compose", "add_prefix_space")


def difference(one: AnyTokenizer, other: AnyTokenizer) -> str | None:
    """The first thing in which they differ that decides ids, as "THIS against THAT"; None if there is none."""
    if one.fingerprint == other.fingerprint:
        return None
    if not (isinstance(one, Tokenizer) and isinstance(other, Tokenizer)):
        return "one vocabulary against another"
    if one.vocabulary_size != other.vocabulary_size:
        return f"{one.vocabulary_size:,} tokens against {other.vocabulary_size:,}"
    tokens = [{number: token for token, number in some.definition.ids.items()} for some in (one, other)]
    for some, known in zip((one, other), tokens, strict=True):
        known |= {number: name.encode() for name, number in some.special_tokens.items()}
    for number in range(one.vocabulary_size):
        first, second = (_text(known.get(number)) for known in tokens)
        if first != second:
            return f"token {number} is {first} against {second}"
    for name in _RULES:
        first, second = (str(getattr(some.definition, name)) for some in (one, other))
        if first != second:
            return f"{name} {first} against {second}"
    return "merges in one order against another"


def _text(token: bytes | None) -> str:
    return "none" if token is None else repr(token.decode("utf-8", "backslashreplace"))
