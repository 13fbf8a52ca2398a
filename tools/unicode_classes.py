"""Writes src/groundup/tokenizer/unicode16.txt: what the patterns ask of a code point, frozen at Unicode 16.0.

`pip install unicodedata2==16.0.0`, then `python tools/unicode_classes.py`. tests/tokenizer/test_unicode.py checks
the file against tiktoken and tokenizers for every code point.
"""

from itertools import groupby
from pathlib import Path

import unicodedata2

TARGET = Path(__file__).parents[1] / "src" / "groundup" / "tokenizer" / "unicode16.txt"
WHITE_SPACE = {
    *range(0x9, 0xE),
    0x20,
    0x85,
    0xA0,
    0x1680,
    *range(0x2000, 0x200B),
    0x2028,
    0x2029,
    0x202F,
    0x205F,
    0x3000,
}
CLASSES = {"Lu": "U", "Lt": "U", "Ll": "l", "Lm": "L", "Lo": "L", "M": "M", "N": "N"}


def class_of(code_point: int) -> str:
    """The letter of its class: U upper, l lower, L other letter, M mark, N number, S white space, R line end."""
    if code_point in WHITE_SPACE:
        return "R" if chr(code_point) in "\r\n" else "S"
    category = unicodedata2.category(chr(code_point))
    return CLASSES.get(category) or CLASSES.get(category[0], "-")


def main() -> None:
    """Write one line for each run of code points of one class: its first code point and the class."""
    assert unicodedata2.unidata_version == "16.0.0"
    runs = [f"{next(points):X} {name}" for name, points in groupby(range(0x110000), class_of)]
    TARGET.write_text("\n".join(runs) + "\n", "ascii")


if __name__ == "__main__":
    main()
