"""Special tokens in text: finding them, and refusing those that are not allowed (as tiktoken does)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Literal

from groundup.errors import UserError

Special = AbstractSet[str] | Literal["all"]


def resolve(
    known: Mapping[str, int], allowed: Special, disallowed: Special
) -> tuple[frozenset[str], frozenset[str]]:
    """The special tokens that become their id, and those whose text is refused."""
    allowed_tokens = frozenset(known) if allowed == "all" else frozenset(known.keys() & allowed)
    disallowed_tokens = frozenset(known) - allowed_tokens if disallowed == "all" else frozenset(disallowed)
    return allowed_tokens, disallowed_tokens


def refuse(text: bytes, disallowed: frozenset[str], position: int = 0) -> None:
    """UserError if the text, which begins at character `position`, holds one of the tokens."""
    if disallowed and (found := any_of(disallowed).search(text)):
        place = position + len(text[: found.start()].decode("utf-8", "surrogateescape"))
        raise UserError(
            f"the text contains the special token '{found[0].decode()}' at character {place}; pass "
            "allowed_special={...} to encode it as one id, or disallowed_special=() to read it as plain text"
        )


def cut_out(text: bytes, allowed: frozenset[str]) -> Iterator[tuple[bytes, str | None]]:
    """The text between special tokens, and the token that follows each part; None after the last."""
    position = 0
    if allowed:
        for found in any_of(allowed).finditer(text):
            yield text[position : found.start()], found[0].decode()
            position = found.end()
    yield text[position:] if position else text, None


@lru_cache(maxsize=16)
def any_of(tokens: frozenset[str]) -> re.Pattern[bytes]:
    """Finds any of the tokens, the longest where several start at the same byte."""
    encoded = sorted((token.encode() for token in tokens), key=len, reverse=True)
    return re.compile(b"|".join(map(re.escape, encoded)))


def check_special_tokens(special_tokens: Sequence[str]) -> None:
    """UserError unless they are distinct, not empty, and valid Unicode."""
    if isinstance(special_tokens, str):
        raise UserError(f"special_tokens is the string '{special_tokens}'; give a list of strings")
    seen = set()
    for token in special_tokens:
        if not token or token.encode(errors="replace").decode() != token:
            raise UserError(
                f"special token {token!r} is empty or not valid Unicode; give it a name such as '<|x|>'"
            )
        if token in seen:
            raise UserError(f"special token '{token}' is given twice; name it once")
        seen.add(token)
