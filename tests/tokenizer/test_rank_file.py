import string
from base64 import b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken_ext import openai_public

from groundup.errors import UserError
from groundup.tokenizer import Tokenizer, rank_file
from groundup.tokenizer.alphabet import BYTES_IN_ORDER
from groundup.tokenizer.definition import Definition
from groundup.tokenizer.pretokenize import PATTERNS
from groundup.tokenizer.rank_file import read_file, recover_merges, write_file

BYTES = {bytes([byte]): number for number, byte in enumerate(BYTES_IN_ORDER)}


def write_ranks(file: Path, ranks: Mapping[bytes, int]) -> None:
    """As tiktoken's `dump_tiktoken_bpe` writes them."""
    in_order = sorted(ranks.items(), key=lambda item: item[1])
    file.write_bytes(b"".join(b64encode(token) + b" " + str(rank).encode() + b"\n" for token, rank in in_order))


def encoding(pattern: str, ranks: Mapping[bytes, int], special_tokens: Mapping[str, int]) -> tiktoken.Encoding:
    return tiktoken.Encoding(
        "peer", pat_str=pattern, mergeable_ranks=dict(ranks), special_tokens=dict(special_tokens)
    )


@pytest.mark.parametrize("pattern", ["gpt2", "cl100k", "o200k"])
def test_a_trained_tokenizer_comes_back(pattern: str, trained: Callable[[str], Tokenizer], tmp_path: Path) -> None:
    name = "cl100k-tiktoken" if pattern == "cl100k" else pattern
    tokenizer, file = trained(name), tmp_path / "own.tiktoken"
    definition = tokenizer._definition
    write_file(file, definition)
    assert read_file(file, pattern, ["<|endoftext|>", "<|im_start|>"]) == definition
    assert read_file(file, pattern, tokenizer.special_tokens) == definition
    assert read_file(file, pattern).special_tokens == {}
    assert len(tiktoken.load.load_tiktoken_bpe(str(file))) == 1998


def openai(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What OpenAI's library says of an encoding beside the ranks, which it would download."""
    for loader in ("load_tiktoken_bpe", "data_gym_to_mergeable_bpe_ranks"):
        monkeypatch.setattr(openai_public, loader, lambda *_, **hashes: hashes)
    return openai_public.ENCODING_CONSTRUCTORS[name]()


@pytest.mark.parametrize(
    ("pattern", "name"), [("gpt2", "r50k_base"), ("cl100k", "cl100k_base"), ("o200k", "o200k_base")]
)
def test_openais_files_are_read_as_by_openai(
    pattern: str,
    name: str,
    texts: dict[str, str],
    fragments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = openai(name, monkeypatch)
    known = rank_file._ENCODINGS[pattern]
    assert known.sha256 == theirs["mergeable_ranks"]["expected_hash"]
    assert known.special_tokens == theirs["special_tokens"]
    # A file of our own in the place of theirs: as long as it, and with its hash.
    tokenizer = Tokenizer.train(texts.values(), 1500, PATTERNS[known.pattern], special_tokens=())
    ranks = tokenizer._definition.ids
    file = tmp_path / "file"
    write_ranks(file, ranks)
    ours = rank_file._Encoding(
        known.pattern, len(ranks), known.special_tokens, sha256(file.read_bytes()).hexdigest()
    )
    monkeypatch.setitem(rank_file._ENCODINGS, pattern, ours)
    definition = read_file(file)
    assert definition == read_file(file, pattern)
    assert definition.special_tokens == theirs["special_tokens"]
    assert read_file(file, pattern, ()).special_tokens == {}
    # OpenAI's own spelling of the pattern, with the special tokens at the end of our ids.
    peer = encoding(theirs["pat_str"], ranks, {})
    ours_alone = Tokenizer(read_file(file, pattern, ()))

    def same_ids(text: str) -> None:
        assert ours_alone.encode_ordinary(text) == peer.encode_ordinary(text)

    for text in (*texts.values(), "a\n  ", "a \n\n", "  \n b", " \r\n\t"):
        same_ids(text)
    # Code points that Python's Unicode 14 does not have, and U+0295, are left out: the engines differ on them.
    characters = st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="\u0295")
    pieces = st.sampled_from(fragments) | characters
    settings(max_examples=200, deadline=None)(given(st.lists(pieces).map("".join))(same_ids))()


# Tokens over few letters in no sensible order: parts may be missing, or rank after what is made of them.
ANY_TOKENS = st.lists(st.text("abc", min_size=2, max_size=7).map(str.encode), unique=True, max_size=25)


@settings(max_examples=300, deadline=None)
@given(tokens=ANY_TOKENS, text=st.text("abc ", max_size=60))
def test_any_ranks_give_tiktokens_ids(
    tokens: list[bytes], text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ranks = BYTES | {token: 256 + number for number, token in enumerate(tokens)}
    file = tmp_path_factory.mktemp("ranks") / "file"
    write_ranks(file, ranks)
    definition = read_file(file, r"[^ ]+| ")
    peer = encoding(r"[^ ]+| ", ranks, {})
    assert Tokenizer(definition).encode_ordinary(text) == peer.encode_ordinary(text)
    again = file.with_name("again")
    write_file(again, definition)
    assert again.read_bytes() == file.read_bytes()


def test_tokens_that_no_merge_makes_are_whole_pieces() -> None:
    ranks = BYTES | {b"ab": 256, b"zqx": 257, b"abc": 258}
    assert recover_merges(ranks) == (((b"a", b"b"), (b"ab", b"c")), [b"zqx"])


def test_ids_may_have_gaps_and_bytes_any_order(texts: dict[str, str], tmp_path: Path) -> None:
    ranks = {bytes([byte]): 2 * byte for byte in range(256)} | {b"th": 1000, b"the": 1003}
    write_ranks(tmp_path / "file", ranks)
    tokenizer = Tokenizer(read_file(tmp_path / "file", "gpt2", ["<|x|>"]))
    assert tokenizer.special_tokens == {"<|x|>": 1004}
    peer = encoding(PATTERNS["gpt2"], ranks, {"<|x|>": 1004})
    assert tokenizer.encode_ordinary(texts["english"]) == peer.encode_ordinary(texts["english"])


def test_llama_3s_merges_may_be_written(trained: Callable[[str], Tokenizer], tmp_path: Path) -> None:
    definition = trained("gpt2")._definition
    ids = definition.ids
    every_split = tuple(
        (token[:cut], token[cut:])
        for token in ids
        for cut in range(1, len(token))
        if token[:cut] in ids and token[cut:] in ids
    )
    assert len(every_split) > len(definition.merges)
    wide = Definition(
        pattern=definition.pattern, merges=every_split, special_tokens={}, vocabulary=ids, whole_pieces=True
    )
    write_file(tmp_path / "wide", wide)
    write_file(tmp_path / "narrow", definition)
    assert (tmp_path / "wide").read_bytes() == (tmp_path / "narrow").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compose": True}, "cannot say compose"),
        ({"add_prefix_space": True}, "cannot say add_prefix_space"),
        ({"further_patterns": ("a",)}, "cannot say further_patterns"),
        ({"merges": ((b"b", b"c"), (b"a", b"b"))}, "do not follow the order of merges"),
        (
            {"merges": ((b"a", b"b"),), "vocabulary": BYTES | {b"ab": 256, b"zqx": 257}},
            "'zqx' is made by no merges",
        ),
    ],
)
def test_what_a_rank_file_cannot_say_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    rules = {"merges": ((b"a", b"b"), (b"b", b"c")), "vocabulary": BYTES | {b"ab": 256, b"bc": 257}}
    definition = Definition(**({"pattern": ".", "special_tokens": {}} | rules | change))
    with pytest.raises(UserError, match=message):
        write_file(tmp_path / "file", definition)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"IQ== 0\nIg== x\n", "line 2: .* is not a token in base64"),
        (b"IQ== 0\n!!!! 1\n", "line 2: .* is not a token in base64"),
        (b"IQ== 0 1\n", "line 1: .* is not a token in base64"),
        (b"IQ== 0\nIg== 0\n", "two of its tokens have the same id"),
        (b"IQ== 0\nIQ== 1\n", "line 2: .* stands there twice"),
        (b"IQ== 0\n", "lacks 255 of the 256 bytes"),
        (b"IQ== -1\n", "not a number from 0"),
    ],
)
def test_files_of_another_kind_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_file(tmp_path / "file", "gpt2")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_openais_needs_a_pattern(tmp_path: Path) -> None:
    write_ranks(tmp_path / "file", BYTES)
    with pytest.raises(UserError, match=r"does not say how text is cut; give a pattern"):
        read_file(tmp_path / "file")
    with pytest.raises(UserError, match="did you mean 'gpt2'"):
        read_file(tmp_path / "file", "gpt3")


@pytest.mark.parametrize("length", [1000, 4000])
def test_a_long_token_is_no_trouble(length: int) -> None:
    letters = string.ascii_lowercase.encode()
    token = (letters * length)[:length]
    merges, unreachable = recover_merges(BYTES | {token: 256})
    assert (merges, unreachable) == ((), [token])
