"""Pieces of any length, as the C++ merges them: in registers, with a heap, or window by window; and the cache."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from itertools import product
from random import Random

import numpy as np
import pytest
import tiktoken
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.tokenizer import Tokenizer
from groundup.tokenizer.definition import Definition
from groundup.tokenizer.encode import PieceEncoder

from .conftest import Running

Run = Callable[[str], Running]
WHOLE = r"[\s\S]+"
LENGTHS = [
    *range(1, 19),
    31,
    32,
    33,
    47,
    48,
    49,
    *range(62, 68),
    *range(126, 131),
    *range(253, 259),
    511,
    1000,
    5000,
]


def plainly(definition: Definition, piece: bytes) -> list[int]:
    """By the plain encoder, which test_encode compares with the definition of byte-pair encoding."""
    return PieceEncoder(definition)._encode(piece)


def one_piece(merges: list[tuple[bytes, bytes]], **more: object) -> Definition:
    return Definition(pattern=WHOLE, merges=tuple(merges), special_tokens={}, **more)


def letters(seed: int, alphabet: str, length: int) -> str:
    return "".join(Random(seed).choices(alphabet, k=length))


TRAINING = {
    "a": "a" * 4000,
    "spaces": " " * 4000,
    "newlines": "\r\n" * 2000,
    "emoji": "🙂" * 1000,
    "words": "the quick brown fox " * 200,
    "two letters": letters(0, "ab", 4000),
    "letters": letters(1, "abcdefghijklmnopqrstuvwxyz", 4000),
    "base64": letters(2, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", 4000),
}


@pytest.fixture(scope="module", params=TRAINING)
def long_tokens(request: pytest.FixtureRequest) -> Tokenizer:
    """A vocabulary of one of the texts, which is one piece: of a run it has tokens of thousands of bytes."""
    return Tokenizer.train([TRAINING[request.param]], 256 + 400, WHOLE, special_tokens=())


def test_runs_and_noise_of_every_length(
    long_tokens: Tokenizer, instruction_sets: list[str], running: Run, tiktoken_encoding: Callable
) -> None:
    definition = long_tokens.definition
    tik: tiktoken.Encoding = tiktoken_encoding(long_tokens)
    encoder = Tokenizer(definition)
    pieces = [(text * (length // len(text) + 1))[:length] for text, length in product(TRAINING.values(), LENGTHS)]
    pieces += [piece[1:] + piece[:1] * 3 + piece for piece in pieces if len(piece) < 600]
    for piece in pieces:
        expected = plainly(definition, piece.encode())
        assert expected == tik.encode_ordinary(piece)
        for name in instruction_sets:
            with running(name):
                assert encoder.encode_ordinary(piece) == expected, (name, len(piece))


def test_there_are_tokens_longer_than_a_window() -> None:
    runs = Tokenizer.train([TRAINING["a"]], 300, WHOLE, special_tokens=())
    assert max(runs.byte_lengths) > 1000


# What merges join: letters, or characters whose bytes may also merge with their neighbours'.
ALPHABETS = ["a", "ab", "abc", "é中丁", "中a🙂"]


@st.composite
def any_tables(draw: st.DrawFn, alphabet: str) -> list[tuple[bytes, bytes]]:
    """Merges over some bytes in any order: a merge may outrank those that make its parts."""
    random = Random(draw(st.integers(0, 1 << 32)))
    tokens = [bytes([byte]) for byte in sorted(set(alphabet.encode()))]
    merges = []
    longest = draw(st.sampled_from([4, 12, 100, 400]))
    for _ in range(draw(st.integers(1, 40))):
        left, right = random.choice(tokens[-12:]), random.choice(tokens)
        if random.random() < 0.3:
            right = left
        if random.random() < 0.5:
            left, right = right, left
        if len(left + right) > longest:
            continue
        merges.append((left, right))  # now and then the same again, or another way to the same token
        if left + right not in tokens:
            tokens.append(left + right)
    disorder = draw(st.sampled_from(["none", "reversed", "shuffled", "swapped"]))
    if disorder == "reversed":
        merges.reverse()
    elif disorder == "shuffled":
        random.shuffle(merges)
    elif disorder == "swapped" and len(merges) > 1:
        place = random.randrange(len(merges) - 1)
        merges[place : place + 2] = merges[place + 1], merges[place]
    return merges


@st.composite
def any_pieces(draw: st.DrawFn, alphabet: str) -> bytes:
    """Motifs of characters or bytes of the alphabet, each some times over."""
    bytewise = st.lists(st.sampled_from([*alphabet.encode()]), min_size=1, max_size=5).map(bytes)
    motif = st.text(alphabet, min_size=1, max_size=5).map(str.encode) | bytewise
    motifs = draw(
        st.lists(st.tuples(motif, st.sampled_from([1, 1, 1, 2, 15, 16, 40, 130])), min_size=1, max_size=12)
    )
    return b"".join(motif * times for motif, times in motifs)


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_any_table_of_merges_gives_the_plain_ids(alphabet: str, instruction_sets: list[str], running: Run) -> None:
    @settings(max_examples=100, deadline=None)
    @given(
        any_tables(alphabet),
        st.lists(any_pieces(alphabet), min_size=1, max_size=3),
        st.integers(0, 1 << 32),
        st.booleans(),
    )
    def on_any_table(
        merges: list[tuple[bytes, bytes]], pieces: list[bytes], seed: int, whole_pieces: bool
    ) -> None:
        definition = one_piece(merges, whole_pieces=whole_pieces)
        noise = letters(seed, alphabet, 300).encode()
        tokens = [left + right for left, right in merges]
        pieces = [*pieces, noise, *(token * times for token in tokens[-3:] for times in (1, 2, 9))]
        expected = [plainly(definition, piece) for piece in pieces]
        for name in instruction_sets:
            with running(name):
                tokenizer = Tokenizer(definition)
                assert [tokenizer.encode_ordinary(piece) for piece in pieces] == expected, name

    on_any_table()


# Tables at which earlier windows went wrong, each with a motif that is repeated.
_A26 = b"abbabbaabbabbabbabbaabbabb"
KNOWN = {
    "a period that ends in a part of a token": ([(b"aaa", b"aa"), (b"aa", b"a"), (b"a", b"a")], b"a"),
    "a first token that changes with a wider window": (
        [
            *[(b"a", b"b"), (b"abb", b"a"), (b"abb", b"abba"), (b"ab", b"b"), (b"abbabba", b"abbabb")],
            *[(b"abbabb", b"abbabb"), (_A26[:13], _A26[13:]), (_A26, _A26), (b"abb", b"abb")],
            *[(_A26 * 2, b"abbabb"), (b"a", _A26 * 2 + b"abbabb")],
        ],
        b"abbabbaabbabbaa" + _A26 * 2 + b"abbabb",
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_windows_join_where_they_once_did_not(name: str, code_path: str) -> None:
    merges, motif = KNOWN[name]
    definition = one_piece(merges)
    tokenizer = Tokenizer(definition)
    for size in range(1, 400):
        piece = (motif * size)[:size]
        assert tokenizer.encode_ordinary(piece) == plainly(definition, piece)


def test_a_token_that_no_merges_make_is_a_whole_piece_of_any_length(code_path: str) -> None:
    bytes_and = {bytes([byte]): byte for byte in range(256)}
    tokens = [letters(3, "abc", length).encode() for length in LENGTHS[1:-1]]
    vocabulary = bytes_and | {token: 300 + number for number, token in enumerate(tokens)}
    definition = one_piece([], whole_pieces=True, vocabulary=vocabulary)
    tokenizer = Tokenizer(definition)
    for number, token in enumerate(tokens):
        assert tokenizer.encode(token) == [vocabulary[token]] == [300 + number]
        assert tokenizer.encode(b"x" + token) == [*(b"x" + token)]


@pytest.mark.parametrize("text", ["a", " ", "🙂", "ab", "base64"])
def test_long_runs_in_the_patterns_of_models(
    text: str,
    code_path: str,
    trained: Callable[[str], Tokenizer],
    hugging_face: Callable,
    tiktoken_encoding: Callable,
) -> None:
    run = TRAINING["base64"] * 5 if text == "base64" else text * 20_000
    for pattern in ("gpt2", "o200k"):
        tokenizer = Tokenizer(trained(pattern).definition)
        peer: tokenizers.Tokenizer = hugging_face(tokenizer)
        ids = tokenizer.encode_ordinary(run)
        assert ids == peer.encode(run).ids == tiktoken_encoding(tokenizer).encode_ordinary(run)


def words(count: int, length: int, seed: int = 0) -> list[str]:
    """Distinct words of random letters."""
    random = np.random.default_rng(seed)
    table = random.integers(ord("a"), ord("z") + 1, (count, length), np.uint8)
    rows = {row.tobytes() for row in table}
    assert len(rows) > 0.99 * count
    return [row.decode() for row in rows]


# More than the cache holds: a million short pieces, kept where they come again; 64 MB of long ones with their ids.
@pytest.mark.parametrize(
    ("count", "length", "times"),
    [(1_300_000, 7, 1), (1_300_000, 7, 5), (130_000, 220, 1)],
    ids=["short", "short again and again", "long"],
)
def test_more_pieces_than_the_cache_has_room_for(
    count: int, length: int, times: int, trained: Callable[[str], Tokenizer], instruction_sets: list[str]
) -> None:
    tokenizer = Tokenizer(trained("cl100k").definition)
    pieces = words(count, length)
    texts = [" ".join(np.repeat(pieces[start : start + 50_000], times)) for start in range(0, len(pieces), 50_000)]
    first = Tokenizer(tokenizer.definition).encode_array(texts[0])
    out = np.empty(max(map(len, texts)), np.uint32)
    for text in [*texts, *texts]:
        assert tokenizer.decode_bytes(tokenizer.encode_array(text, out=out)) == text.encode()
    assert np.array_equal(tokenizer.encode_array(texts[0]), first)
    plain = PieceEncoder(tokenizer.definition)
    for piece in pieces[:: count // 2000]:
        assert tokenizer.encode_ordinary(piece) == plain._encode(piece.encode())


@pytest.mark.parametrize("length", [5, 9, 20])
def test_strange_text_and_prose_by_turns(
    length: int,
    trained: Callable[[str], Tokenizer],
    tiktoken_encoding: Callable,
    running: Run,
    instruction_sets: list[str],
    real_texts: dict[str, str],
) -> None:
    """Where hardly a piece is known of late most are not looked up; that must come and go without a trace."""
    prose = " ".join(real_texts.values()) * 3
    definition = trained("cl100k").definition
    texts = [text for seed in range(3) for text in (" ".join(words(90_000, length, seed)), prose)]
    peer: tiktoken.Encoding = tiktoken_encoding(trained("cl100k"))
    expected = [peer.encode_ordinary(text) for text in texts]
    for name in instruction_sets:
        with running(name):
            tokenizer = Tokenizer(definition)
            assert [tokenizer.encode_ordinary(text) for text in texts] == expected
            assert tokenizer.encode_ordinary("".join(texts)) == peer.encode_ordinary("".join(texts))


def test_the_cache_is_bounded(tmp_path_factory: pytest.TempPathFactory, instruction_sets: list[str]) -> None:
    """A process of its own: the highest memory after much more than the cache holds is that after a part of it."""
    script = textwrap.dedent("""
        import resource
        import numpy as np
        from groundup import Tokenizer

        tokenizer = Tokenizer.train(["some text"], 260)
        random = np.random.default_rng(0)
        out = np.zeros(5_000_000, np.uint32)

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        peaks = []
        for _ in range(16):
            letters = random.integers(ord("a"), ord("z") + 1, 5_000_000, np.uint8)
            letters[::230] = 32
            tokenizer.encode_array(letters.tobytes(), out=out)
            peaks.append(peak())
        print(peaks[7], peaks[15])
    """)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    half, full = map(int, run.stdout.split())
    # Each round has 22,000 pieces of 229 ids: 25 MB with their bytes.
    assert full - half < 50 << 10
