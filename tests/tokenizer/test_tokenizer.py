import pickle
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import tiktoken
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.pretokenize import PATTERNS

from .strategies import ANY_CHARACTER

END = "<|endoftext|>"


@pytest.fixture(scope="module")
def tokenizer(trained: Callable[[str], Tokenizer]) -> Tokenizer:
    return trained("cl100k")


@pytest.fixture(scope="module")
def tik(tokenizer: Tokenizer, tiktoken_encoding: Callable[[Tokenizer], tiktoken.Encoding]) -> tiktoken.Encoding:
    return tiktoken_encoding(tokenizer)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_ids_are_those_of_tiktoken_and_hugging_face(
    pattern: str,
    trained: Callable[[str], Tokenizer],
    texts: dict[str, str],
    fragments: list[str],
    hugging_face: Callable[[Tokenizer], tokenizers.Tokenizer],
    tiktoken_encoding: Callable[[Tokenizer], tiktoken.Encoding],
) -> None:
    tokenizer = trained(pattern)
    peer, tik = hugging_face(tokenizer), tiktoken_encoding(tokenizer)
    assert tokenizer.vocabulary_size == 2000 == peer.get_vocab_size() == tik.n_vocab
    for text in texts.values():
        ids = tokenizer.encode_ordinary(text)
        assert ids == peer.encode(text).ids
        assert ids == tik.encode_ordinary(text)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.sampled_from([*fragments, END]) | ANY_CHARACTER).map("".join))
    def on_any_text(text: str) -> None:
        assert tokenizer.encode_ordinary(text) == tik.encode_ordinary(text)
        assert tokenizer.encode(text, allowed_special="all") == peer.encode(text).ids

    on_any_text()


@settings(max_examples=500)
@given(document=st.binary() | st.text().map(str.encode) | st.text().map(lambda text: text.encode()[1:-1]))
def test_any_bytes_come_back(tokenizer: Tokenizer, document: bytes) -> None:
    assert tokenizer.decode_bytes(tokenizer.encode_ordinary(document)) == document
    assert tokenizer.decode_bytes(tokenizer.encode(document, "all")) == document


@pytest.mark.parametrize("pattern", [r"[\p{L}\p{M}]+", r"[\s\S]+"])
@given(document=st.binary())
def test_any_bytes_come_back_with_a_pattern_of_ones_own(pattern: str, document: bytes) -> None:
    documents = [document, b"some words, and then some more words"]
    tokenizer = Tokenizer.train(documents, 300, pattern, special_tokens=())
    assert tokenizer.decode_bytes(tokenizer.encode_ordinary(document)) == document


@given(text=st.text())
def test_text_and_its_bytes_have_the_same_ids(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.encode_ordinary(text) == tokenizer.encode_ordinary(text.encode())


@given(text=st.text(st.characters(categories=["Cs"]) | st.sampled_from("ab é")))
def test_decoding_a_string_with_surrogates_gives_valid_text(tokenizer: Tokenizer, text: str) -> None:
    tokenizer.decode(tokenizer.encode_ordinary(text)).encode()


SPECIAL_TEXT = st.lists(st.sampled_from([END, "<|im_start|>", "<|", "|>", "endoftext", "a", " ", "\n"])).map(
    "".join
)
SPECIAL_SETS = st.just("all") | st.sets(st.sampled_from([END, "<|im_start|>"]))


@settings(max_examples=300)
@given(text=SPECIAL_TEXT, allowed=SPECIAL_SETS, disallowed=SPECIAL_SETS)
def test_special_tokens_are_treated_as_by_tiktoken(
    tokenizer: Tokenizer,
    tik: tiktoken.Encoding,
    text: str,
    allowed: set[str],
    disallowed: set[str],
) -> None:
    try:
        expected = tik.encode(text, allowed_special=allowed, disallowed_special=disallowed)
    except ValueError:
        with pytest.raises(UserError, match="allowed_special"):
            tokenizer.encode(text, allowed, disallowed)
    else:
        assert tokenizer.encode(text, allowed, disallowed) == expected
        assert tokenizer.encode_batch([text, ""], allowed, disallowed) == [expected, []]


def test_special_text_is_refused_unless_said_otherwise(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=r"'<\|endoftext\|>' at character 2; pass allowed_special"):
        tokenizer.encode(f"a {END}")
    assert tokenizer.encode(f"a{END}", {END})[-1] == tokenizer.end_of_text == 1998
    assert tokenizer.end_of_text not in tokenizer.encode_ordinary(f"a {END}")
    assert tokenizer.encode(f"a{END}", disallowed_special=set()) == tokenizer.encode_ordinary(f"a{END}")


def test_of_special_tokens_the_longest_is_taken() -> None:
    tokenizer = Tokenizer.train(["x"], 300, special_tokens=("<|a|>", "<|a|><|b|>"))
    assert tokenizer.encode("<|a|><|b|><|a|>", "all") == [257, 256]


@settings(max_examples=300)
@given(ids=st.lists(st.integers(0, 1999)))
def test_a_stream_joins_to_the_decoded_text(tokenizer: Tokenizer, tik: tiktoken.Encoding, ids: list[int]) -> None:
    assert tokenizer.decode_bytes(ids) == tik.decode_bytes(ids)
    assert tokenizer.decode(ids) == "".join(tokenizer.decode_stream(iter(ids)))


def test_a_stream_never_splits_a_character_nor_holds_one_back() -> None:
    tokenizer = Tokenizer.train([], 256, special_tokens=())
    ids = tokenizer.encode_ordinary("aé中🙂")
    assert len(ids) == 10
    assert list(tokenizer.decode_stream(ids)) == ["a", "é", "中", "🙂"]
    assert list(tokenizer.decode_stream(ids[:-1])) == ["a", "é", "中", "\ufffd"]


@pytest.mark.parametrize("bad", [-1, 2000, 1 << 40])
def test_unknown_ids_are_refused(tokenizer: Tokenizer, bad: int) -> None:
    for decode in (tokenizer.decode, tokenizer.decode_bytes, lambda ids: list(tokenizer.decode_stream(ids))):
        with pytest.raises(UserError, match=f"id {bad} .* 0 to 1999"):
            decode([0, bad])
    with pytest.raises(UserError, match=str(bad)):
        tokenizer.token_bytes(bad)


def test_byte_lengths_count_every_byte_once(tokenizer: Tokenizer, texts: dict[str, str]) -> None:
    lengths = tokenizer.byte_lengths
    assert lengths.shape == (2000,)
    assert lengths.dtype == np.int32
    assert [lengths[number] for number in tokenizer.special_tokens.values()] == [0, 0]
    for text in texts.values():
        assert lengths[tokenizer.encode(text + END, "all")].sum() == len(text.encode())
    assert all(len(tokenizer.token_bytes(number)) == lengths[number] for number in range(1998))


def test_ids_are_bytes_then_merges_then_specials(tokenizer: Tokenizer) -> None:
    assert sorted(tokenizer.token_bytes(number) for number in range(256)) == [bytes([byte]) for byte in range(256)]
    assert [tokenizer.token_bytes(number) for number in range(256, 1998)] == [a + b for a, b in tokenizer.merges]
    assert tokenizer.special_tokens == {END: 1998, "<|im_start|>": 1999}
    assert tokenizer.token_bytes(1998) == END.encode()


def test_little_text_gives_a_smaller_vocabulary() -> None:
    tokenizer = Tokenizer.train(["abab"], 5000)
    assert tokenizer.vocabulary_size == 256 + 2 + 1
    assert tokenizer.encode_ordinary("abab") == [257]
    assert tokenizer.end_of_text == 258


def test_bytes_strings_and_generators_train_alike(texts: dict[str, str]) -> None:
    documents = texts["chinese"].split("\n")
    expected = Tokenizer.train(documents, 400)
    assert Tokenizer.train((document.encode() for document in documents), 400) == expected
    assert Tokenizer.train(documents[::-1], 400) == expected


def test_progress_rises_to_one(texts: dict[str, str]) -> None:
    seen: list[float] = []
    Tokenizer.train(texts.values(), 500, progress=seen.append)
    assert seen == sorted(seen)
    assert len(seen) > 50
    assert 0 < seen[0] <= 0.5
    assert seen[-1] == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocabulary_size": 256}, "need at least 257"),
        ({"vocabulary_size": -1, "special_tokens": ()}, "need at least 256"),
        ({"pattern": "gpt3"}, "did you mean 'gpt2'"),
        ({"pattern": "(a"}, "not a regular expression"),
        ({"special_tokens": END}, "give a list"),
        ({"special_tokens": [""]}, "is empty"),
        ({"special_tokens": ["\ud800"]}, "not valid Unicode"),
        ({"special_tokens": [END, END]}, "twice"),
        ({"special_tokens": ["the"]}, "ordinary token"),
        ({"documents": "one text"}, "give a list of documents"),
        ({"documents": b"one text"}, "give a list of documents"),
    ],
)
def test_unusable_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Tokenizer.train(**{"documents": ["the the the"], "vocabulary_size": 300} | arguments)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_an_end_of_text_says_so() -> None:
    with pytest.raises(UserError, match="no end-of-text"):
        _ = Tokenizer.train(["x"], 300, special_tokens=("<|other|>",)).end_of_text


def test_equality_fingerprint_and_pickle(tokenizer: Tokenizer, trained: Callable[[str], Tokenizer]) -> None:
    tokenizer.encode_ordinary("fill the cache " * 100)
    frozen = pickle.dumps(tokenizer)
    copy = pickle.loads(frozen)
    assert copy == tokenizer
    assert (copy.fingerprint, hash(copy)) == (tokenizer.fingerprint, hash(tokenizer))
    assert copy.encode_ordinary("fill the cache") == tokenizer.encode_ordinary("fill the cache")
    assert len(frozen) < 40_000  # merges, pattern, specials: no tables, no cache
    others = [trained("gpt2"), Tokenizer.train(["x"], 300), Tokenizer.train(["x"], 300, special_tokens=())]
    assert len({tokenizer, copy, *others}) == 4
    assert len({one.fingerprint for one in (tokenizer, copy, *others)}) == 4
    assert tokenizer != "tokenizer"


def test_import_is_light() -> None:
    heavy = "import sys, groundup.tokenizer; print({'torch', 'transformers', 'tokenizers'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
