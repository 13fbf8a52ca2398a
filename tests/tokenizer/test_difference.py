from dataclasses import replace
from pathlib import Path

from groundup.tokenizer import Tokenizer
from groundup.tokenizer.definition import Definition
from groundup.tokenizer.difference import difference

_DEFINITION = Definition(
    pattern=r"\S+|\s+", merges=((b"a", b"b"), (b"b", b"c")), special_tokens={"<|endoftext|>": 258}
)


def test_the_first_difference_is_named() -> None:
    shorter = replace(_DEFINITION, merges=_DEFINITION.merges[:1], special_tokens={"<|endoftext|>": 257})
    turned = replace(_DEFINITION, merges=_DEFINITION.merges[::-1], vocabulary=_DEFINITION.ids)
    others = [
        (replace(_DEFINITION, merges=((b"a", b"b"), (b"b", b"d"))), "token 257 is 'bc' against 'bd'"),
        (shorter, "259 tokens against 258"),
        (replace(_DEFINITION, special_tokens={"<|end|>": 258}), "token 258 is '<|endoftext|>' against '<|end|>'"),
        (replace(_DEFINITION, pattern=r"\S|\s"), r"pattern \S+|\s+ against \S|\s"),
        (replace(_DEFINITION, compose=True), "compose False against True"),
        (turned, "merges in one order against another"),
    ]
    for definition, expected in others:
        assert difference(Tokenizer(_DEFINITION), Tokenizer(definition)) == expected


def test_what_gives_the_same_ids_is_the_same(tmp_path: Path) -> None:
    """Written and read again, or with its table of ids written out."""
    one = Tokenizer(_DEFINITION)
    one.save(tmp_path)
    assert difference(one, Tokenizer.load(tmp_path)) is None
    assert difference(one, Tokenizer(replace(_DEFINITION, vocabulary=_DEFINITION.ids))) is None
