"""GPT-2's printable alphabet: each byte has one visible character, so that tokens can be written as text.

Bytes that are visible in Latin-1 stand for themselves; the others take the code points from U+0100 upwards
(Radford et al. 2019, `bytes_to_unicode`). Hugging Face's files write tokens so, and the order of the alphabet
is the order of our byte ids.
"""

from collections.abc import Collection
from itertools import accumulate, pairwise


def _alphabet() -> dict[int, str]:
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}


_CHARACTER_OF_BYTE = _alphabet()
# Characters outside the alphabet that are bytes in Latin-1 must not pass for these.
_LATIN_1_OF_CHARACTER = dict.fromkeys(range(256), "\uffff") | {
    ord(character): chr(byte) for byte, character in _CHARACTER_OF_BYTE.items()
}

BYTES_IN_ORDER = bytes(_CHARACTER_OF_BYTE)
"""All 256 bytes in the order of their characters: `BYTES_IN_ORDER[id]` is the byte with that id."""


def to_characters(token: bytes) -> str:
    """The token in GPT-2's alphabet: `b" the"` becomes `Ġthe`."""
    return token.decode("latin-1").translate(_CHARACTER_OF_BYTE)


def from_characters(characters: str) -> bytes:
    """The bytes that `to_characters` wrote; ValueError for a character that is not in the alphabet."""
    return all_from_characters([characters])[0]


def all_from_characters(tokens: Collection[str]) -> list[bytes]:
    """`from_characters` of many tokens, in one pass over all of them."""
    joined = "".join(tokens)
    try:
        data = joined.translate(_LATIN_1_OF_CHARACTER).encode("latin-1")
    except UnicodeEncodeError as error:
        place = next(place for place, token in enumerate(accumulate(map(len, tokens))) if token > error.start)
        raise ValueError(f"{list(tokens)[place]!r} is not written in GPT-2's byte alphabet") from None
    ends = list(accumulate(map(len, tokens), initial=0))
    return [data[start:end] for start, end in pairwise(ends)]
