"""What the patterns ask of a character, frozen at Unicode 16.0: the version of tiktoken and of tokenizers.

Letters are added to Unicode every year, and every library follows at its own pace; a tokenizer whose ids depend on
the version of a library would not give tomorrow what it gave when its model was trained.
"""

import array
from functools import cache
from importlib.resources import files

import regex

CLASSES = "-SRNUlLM"
"""Other, white space, line end, number, upper or title case, lower case, other letter, mark: as the C++ counts."""

_PROPERTY = {"N": r"\p{N}+", "U": r"[\p{Lu}\p{Lt}]+", "l": r"\p{Ll}+", "L": r"[\p{Lm}\p{Lo}]+", "M": r"\p{M}+"}
_STAND_INS = {"-": "\ue000", "N": "٣", "U": "Ж", "l": "ж", "L": "א", "M": "\u0301"}
_POINTS = 0x110000


@cache
def runs() -> list[tuple[int, str]]:
    """First code points and their classes; each run goes on to the next."""
    lines = files("groundup.tokenizer").joinpath("unicode16.txt").read_text("ascii").splitlines()
    return [(int(start, 16), name) for start, name in map(str.split, lines)]


def packed_runs() -> bytes:
    """The runs as the C++ reads them: uint32, first code point << 3 | class."""
    return array.array("I", (start << 3 | CLASSES.index(name) for start, name in runs())).tobytes()


@cache
def _differing() -> dict[int, str]:
    """Code points that the package `regex` classes otherwise, and for each a character of the class it had."""
    ours = bytearray(_POINTS)
    for (start, name), (end, _) in zip(runs(), [*runs()[1:], (_POINTS, "")], strict=True):
        ours[start:end] = bytes([CLASSES.index(name)]) * (end - start)
    theirs = bytearray(_POINTS)
    # The surrogates, which have no class, stand in their places so that an index is a code point.
    everything = "".join(map(chr, range(_POINTS)))
    for name, expression in _PROPERTY.items():
        for found in regex.finditer(expression, everything):
            theirs[found.start() : found.end()] = bytes([CLASSES.index(name)]) * (found.end() - found.start())
    white = {CLASSES.index("S"), CLASSES.index("R")}  # has not changed since Unicode 6.3
    return {
        point: _STAND_INS[CLASSES[mine]]
        for point, (mine, other) in enumerate(zip(ours, theirs, strict=True))
        if mine != other and mine not in white
    }


def frozen(text: str) -> str:
    """The text, as long as before, with stand-ins for the characters that `regex` classes otherwise."""
    return text if text.isascii() else text.translate(_differing())
