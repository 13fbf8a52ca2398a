"""A text in chunks, or in parts on several threads, gives the ids of the whole text."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.tokenizer import Tokenizer, encode, stream
from groundup.tokenizer.pretokenize import PATTERNS
from groundup.tokenizer.special import Special

from .strategies import FRAGMENTS, LONG_BYTES, LONG_TEXT

Trained = Callable[[str], Tokenizer]
END, START = "<|endoftext|>", "<|im_start|>"
OWN = r"\p{L}+|\p{N}|\s+"

# Special tokens that overlap, and that hold places where text may otherwise be cut.
SPECIAL = (END, "a b", "b\nc", "<|a", "a b\nc d", "ab ", "<<<a")
WITH_SPECIAL = st.lists(
    st.sampled_from([*FRAGMENTS, *SPECIAL, "<|", "|>", "endoftext", "a ", "b", "b\n", "c", "<<", "<"] * 2),
    min_size=20,
).map("".join)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_PART_BYTES", 16)


@pytest.fixture(scope="module")
def own_specials(trained: Trained) -> Tokenizer:
    definition = trained("o200k").definition
    return Tokenizer(replace(definition, special_tokens={token: 2000 + n for n, token in enumerate(SPECIAL)}))


def joined(blocks: Iterator[np.ndarray]) -> list[int]:
    return np.concatenate([np.empty(0, np.uint32), *blocks]).tolist()


@st.composite
def chunked(draw: st.DrawFn, whole: st.SearchStrategy[str | bytes]) -> list[str | bytes]:
    """A text in chunks: those of bytes may split a character, and some are empty."""
    text = draw(whole)
    if isinstance(text, str) and draw(st.booleans()):
        text = text.encode()
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=30)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


@pytest.mark.parametrize("pattern", [*PATTERNS, OWN])
def test_chunks_give_the_ids_of_the_whole(pattern: str, trained: Trained) -> None:
    tokenizer = trained(pattern)

    @settings(max_examples=100, deadline=None)
    @given(chunked(LONG_TEXT | LONG_BYTES | st.text() | st.binary()))
    def on_any_text(chunks: list[str | bytes]) -> None:
        expected = tokenizer.encode_ordinary(type(chunks[0])().join(chunks))
        assert joined(tokenizer.encode_blocks(chunks)) == expected
        assert joined(tokenizer.encode_blocks(iter(chunks), threads=2)) == expected
        assert list(tokenizer.encode_iterable(chunks, disallowed_special=())) == expected

    on_any_text()


@settings(max_examples=300, deadline=None)
@given(
    chunks=chunked(WITH_SPECIAL),
    allowed=st.just("all") | st.sets(st.sampled_from(SPECIAL)),
    disallowed=st.just("all") | st.sets(st.sampled_from(SPECIAL), max_size=2),
)
def test_special_tokens_in_chunks_are_those_of_the_whole(
    own_specials: Tokenizer, chunks: list[str | bytes], allowed: Special, disallowed: Special
) -> None:
    tokenizer = own_specials
    whole = type(chunks[0])().join(chunks)
    try:
        expected = tokenizer.encode(whole, allowed, disallowed)
    except UserError as error:
        with pytest.raises(UserError) as caught:
            list(tokenizer.encode_iterable(chunks, allowed, disallowed))
        assert str(caught.value) == str(error)
        with pytest.raises(UserError) as caught:
            list(tokenizer.encode_blocks(chunks, allowed, disallowed))
        assert str(caught.value) == str(error)
    else:
        assert list(tokenizer.encode_iterable(chunks, allowed, disallowed)) == expected
        assert joined(tokenizer.encode_blocks(chunks, allowed, disallowed)) == expected


def test_special_tokens_that_overlap_are_found_from_the_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked for from a later place, 'ab' would hide 'b c', and the text would be cut inside that."""
    tokenizer = Tokenizer.train(["text"], 256 + 3, special_tokens=("<<<a", "ab", "b c"))
    text = "x" * 20 + "<<<ab c" + "d" * 20
    assert tokenizer.encode(text, "all")[20:22] == [256, 258]
    for part in range(10, 40):
        monkeypatch.setattr(stream, "_PART_BYTES", part)
        for size in (1, 3, 7, 24, 25, 26, 30):
            chunks = [text[start : start + size] for start in range(0, len(text), size)]
            assert list(tokenizer.encode_iterable(chunks, "all")) == tokenizer.encode(text, "all")


def test_a_token_that_is_allowed_hides_none_that_is_refused(own_specials: Tokenizer) -> None:
    """'a b' hid 'b\\nc', the text was cut inside that, and it was not refused."""
    chunks = ["'a b\nc d" + "'" * 10, "'" * 8]
    for encode_chunks in (own_specials.encode_iterable, own_specials.encode_blocks):
        with pytest.raises(UserError, match="special token 'b\nc' at character 3"):
            list(encode_chunks(chunks, {END, "a b"}, {"b\nc"}))


def test_a_space_in_front_comes_once_and_after_special_tokens(trained: Trained) -> None:
    tokenizer = Tokenizer(replace(trained("gpt2").definition, add_prefix_space=True))
    text = "one two three four five six seven eight\nNine ten" + END + "eleven twelve thirteen" + END
    chunks = [text[start : start + 5] for start in range(0, len(text), 5)]
    expected = tokenizer.encode(text, "all")
    assert tokenizer.decode(expected) == " " + text.replace(END + "e", END + " e")
    assert list(tokenizer.encode_iterable(chunks, "all")) == expected


def test_normal_form_is_that_of_the_whole(trained: Trained) -> None:
    tokenizer = Tokenizer(replace(trained("qwen2").definition, compose=True))
    text = "cafe\u0301 \u0301 e\u0301\ne\u0301a\u030a 한글 \u1112\u1161\u11ab\n\u1112 \u0301" * 5
    for size in (1, 2, 3, 7, 16):
        chunks = [text.encode()[start : start + size] for start in range(0, len(text.encode()), size)]
        assert list(tokenizer.encode_iterable(chunks)) == tokenizer.encode(text)


@pytest.mark.parametrize("mode", ["text", "binary", "lines"])
def test_open_files_are_read(mode: str, trained: Trained, texts: dict[str, str], tmp_path: Path) -> None:
    tokenizer, text = trained("cl100k"), texts["chinese"][:3000].replace("\n", "\r\n")
    (tmp_path / "file").write_bytes(text.encode())
    with (
        (tmp_path / "file").open("rb")
        if mode == "binary"
        else (tmp_path / "file").open(encoding="utf-8", newline="")
    ) as file:
        chunks = iter(file) if mode == "lines" else file
        assert list(tokenizer.encode_iterable(chunks)) == tokenizer.encode(text)
    assert list(tokenizer.encode_iterable(io.StringIO(text, newline=""))) == tokenizer.encode(text)
    assert list(tokenizer.encode_iterable([])) == list(tokenizer.encode_iterable(io.BytesIO())) == []


def test_ids_come_while_the_text_is_read(trained: Trained, texts: dict[str, str]) -> None:
    """What has been read and is not encoded yet stays below a part and the way to the last place to cut at."""
    read = 0

    def chunks() -> Iterator[str]:
        nonlocal read
        for start in range(0, 50_000, 10):
            read += 10
            yield texts["english"][start : start + 10]

    tokenizer, written = trained("gpt2"), 0
    for ids in tokenizer.encode_blocks(chunks()):
        written += int(tokenizer.byte_lengths[ids].sum())
        assert read - written < 100
        assert len(ids) < 100
    assert written == read == 50_000


@pytest.mark.parametrize("pattern", [*PATTERNS, OWN])
def test_threads_give_the_ids_of_one(
    pattern: str, code_path: str, trained: Trained, texts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = Tokenizer(trained(pattern).definition)
    documents = [text[:20_000] for text in texts.values()] + [
        "x" * 500,
        " " * 500,
        "ab" * 200 + " " + "c" * 300,
        "",
    ]
    random = Random(0)
    documents += ["".join(random.choices([*FRAGMENTS, "a", "b ", "\n"], k=2000)) for _ in range(3)]
    expected = [tokenizer.encode_array(document) for document in documents]
    for size in (5, 64, 1000):
        monkeypatch.setattr(encode, "_PART_BYTES", size)
        for threads in (1, 2, 3) if size > 5 else (2,):
            for document, ids in zip(documents, expected, strict=True):
                text = document[:2000] if size == 5 else document
                wanted = tokenizer.encode_array(text) if size == 5 else ids
                found = tokenizer.encode_array(text, threads=threads)
                assert found.dtype == np.uint32 and np.array_equal(found, wanted)


def test_an_array_of_ones_own_is_written_to(
    code_path: str, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "_PART_BYTES", 10)
    tokenizer = Tokenizer(trained("cl100k").definition)
    text = "The quick brown fox: «jumps» over 12345 lazy dogs. " * 3
    expected = tokenizer.encode_ordinary(text)
    size = len(text.encode())
    for threads in (1, 3):
        for room in (size, size + 1, size + 1000):
            out = np.full(room, 77, np.uint32)
            ids = tokenizer.encode_array(text, threads=threads, out=out)
            assert ids.tolist() == expected and np.shares_memory(ids, out) and ids.base is out
            assert (out[size:] == 77).all()  # nothing is written beyond an id a byte
    for bad in (
        np.empty(size - 1, np.uint32),
        np.empty(size, np.int32),
        np.empty((size, 1), np.uint32),
        np.empty(2 * size, np.uint32)[::2],
    ):
        with pytest.raises(UserError, match=f"out must be a row of uint32 with room for {size} ids"):
            tokenizer.encode_array(text, out=bad)
    assert tokenizer.encode_array("", out=np.empty(0, np.uint32)).tolist() == []


def test_a_short_texts_array_holds_no_more_than_its_ids(trained: Trained) -> None:
    ids = trained("cl100k").encode_array("the the the the " * 100)
    assert ids.base is None or ids.base.nbytes == ids.nbytes
