import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer, SentencePieceUnigramTokenizer
from transformers import AutoTokenizer

from groundup.errors import UserError
from groundup.tokenizer import library_texts
from groundup.tokenizer.library import LibraryTokenizer
from groundup.tokenizer.library_recipes import SPECIAL_TOKENS
from groundup.tokenizer.library_texts import cut_at_spaces, training_texts

ALGORITHMS = tuple(SPECIAL_TOKENS)


@pytest.fixture(scope="module")
def documents(texts: dict[str, str]) -> list[str]:
    return [text[:20_000] for text in texts.values()]


@pytest.fixture(scope="module")
def train(documents: list[str]) -> Callable[[str], LibraryTokenizer]:
    """Tokenizers of at most 3,000 ids, by algorithm."""
    cache: dict[str, LibraryTokenizer] = {}

    def of_algorithm(algorithm: str) -> LibraryTokenizer:
        if algorithm not in cache:
            cache[algorithm] = LibraryTokenizer.train(documents, 3000, algorithm)
        return cache[algorithm]

    return of_algorithm


@pytest.fixture(params=ALGORITHMS)
def tokenizer(request: pytest.FixtureRequest, train: Callable[[str], LibraryTokenizer]) -> LibraryTokenizer:
    return train(request.param)


def vocabulary_of(tokenizer: LibraryTokenizer, folder: Path) -> Any:
    tokenizer.save(folder)
    return json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]


def test_wordpiece_is_that_of_bert(documents: list[str], tmp_path: Path) -> None:
    options = {"special_tokens": list(SPECIAL_TOKENS["wordpiece"]), "min_frequency": 2}
    peer = BertWordPieceTokenizer(lowercase=True)
    peer.train_from_iterator(documents[:1], 150, limit_alphabet=10_000, show_progress=False, **options)
    ours = LibraryTokenizer.train(documents[:1], 150, "wordpiece", lowercase=True, min_frequency=2)
    vocabulary = vocabulary_of(ours, tmp_path)
    assert vocabulary.keys() == peer.get_vocab().keys()
    peer = BertWordPieceTokenizer(vocabulary, lowercase=True)
    for text in (*documents, "Déjà VU — naïve, 中文字! unbelievableness\t\n x"):
        assert ours.encode(text) == peer.encode(text, add_special_tokens=False).ids


def test_unigram_is_that_of_sentencepieces_form(
    train: Callable[[str], LibraryTokenizer], documents: list[str], tmp_path: Path
) -> None:
    tokenizer = train("unigram")
    vocabulary = [(token, score) for token, score in vocabulary_of(tokenizer, tmp_path)]
    peer = SentencePieceUnigramTokenizer(vocabulary)
    for text in documents:
        ids = tokenizer.encode(text)
        assert ids == peer.encode(text).ids
        assert tokenizer.special_tokens["<unk>"] not in ids
        assert len(ids) < len(text)
    assert tokenizer.encode("\U0001f642")[-1] == tokenizer.special_tokens["<unk>"]


def test_special_tokens_get_the_first_ids(tokenizer: LibraryTokenizer) -> None:
    assert list(tokenizer.special_tokens.values()) == list(range(len(tokenizer.special_tokens)))
    by_name = tokenizer.special_tokens
    assert tokenizer.mask_token == by_name.get("[MASK]", by_name.get("<mask>"))
    assert tokenizer.pad_token == by_name.get("[PAD]", by_name.get("<pad>")) == 0
    assert tokenizer.end_of_text == by_name.get("[SEP]", by_name.get("</s>"))


def test_a_role_that_no_token_has_is_named(documents: list[str]) -> None:
    tokenizer = LibraryTokenizer.train(documents[:1], 300, special_tokens=["[UNK]"])
    for role in ("mask_token", "pad_token"):
        with pytest.raises(UserError, match=f"no {role}"):
            getattr(tokenizer, role)
    with pytest.raises(UserError, match="no sep_token"):
        _ = tokenizer.end_of_text


def test_saved_files_give_the_same_ids_everywhere(
    tokenizer: LibraryTokenizer, documents: list[str], tmp_path: Path
) -> None:
    tokenizer.save(tmp_path / "a" / "b", model_max_length=77)
    again = LibraryTokenizer.load(tmp_path / "a" / "b")
    assert again == tokenizer
    assert (again.mask_token, again.pad_token) == (tokenizer.mask_token, tokenizer.pad_token)
    peer = tokenizers.Tokenizer.from_file(str(tmp_path / "a" / "b" / "tokenizer.json"))
    auto = AutoTokenizer.from_pretrained(tmp_path / "a" / "b")
    assert (len(auto), auto.model_max_length) == (tokenizer.vocabulary_size, 77)
    assert (auto.mask_token_id, auto.pad_token_id) == (tokenizer.mask_token, tokenizer.pad_token)
    for text in documents:
        ids = tokenizer.encode(text)
        assert ids == again.encode(text) == peer.encode(text, add_special_tokens=False).ids
        assert auto(text, add_special_tokens=False)["input_ids"] == ids
        assert tokenizer.decode(ids) == peer.decode(ids)
    around = auto("word")["input_ids"]
    assert around[-1] == tokenizer.end_of_text
    assert (around[0] == tokenizer.special_tokens.get("[CLS]")) == ("[CLS]" in tokenizer.special_tokens)


def test_truncation_and_padding_in_a_file_do_not_count(documents: list[str], tmp_path: Path) -> None:
    tokenizer = LibraryTokenizer.train(documents[:1], 500)
    tokenizer.save(tmp_path)
    peer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    peer.enable_truncation(4)
    peer.enable_padding(length=8)
    peer.save(str(tmp_path / "tokenizer.json"))
    assert LibraryTokenizer.load(tmp_path).encode(documents[0]) == tokenizer.encode(documents[0])


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_bytes_lose_nothing(train: Callable[[str], LibraryTokenizer], text: str) -> None:
    tokenizer = train("unigram-bytes")
    assert tokenizer.decode(tokenizer.encode_ordinary(text)) == text


def test_text_that_is_no_unicode_is_read_all_the_same(tokenizer: LibraryTokenizer) -> None:
    expected = tokenizer.encode("a\ufffdb")
    assert tokenizer.encode(b"a\xffb") == tokenizer.encode("a\ud800b") == expected
    assert tokenizer.encode("é 🙂".encode()) == tokenizer.encode("é 🙂") == tokenizer.encode("é \ud83d\ude42")


def test_special_tokens_are_treated_as_by_tokenizer(tokenizer: LibraryTokenizer) -> None:
    mask, pad = (
        next(name for name, number in tokenizer.special_tokens.items() if number == wanted)
        for wanted in (tokenizer.mask_token, tokenizer.pad_token)
    )
    text = f"one {mask} two"
    with pytest.raises(UserError, match=r"at character 4; pass allowed_special"):
        tokenizer.encode(text)
    assert tokenizer.encode(text, "all").count(tokenizer.mask_token) == 1
    assert tokenizer.encode(text, {mask}) == tokenizer.encode(text, "all")
    plain = tokenizer.encode(text, disallowed_special=())
    assert tokenizer.mask_token not in plain
    assert plain == tokenizer.encode_ordinary(text) == tokenizer.encode_array(text).tolist()
    assert tokenizer.encode(text, disallowed_special={pad}) == plain
    assert tokenizer.encode_batch([text, "x"], {mask}) == [tokenizer.encode(text, "all"), tokenizer.encode("x")]
    with pytest.raises(UserError, match="special token"):
        tokenizer.encode(text + pad, {mask})
    with pytest.raises(UserError, match="allow all or none"):
        tokenizer.encode(text + pad, {mask}, ())


def test_offsets_name_the_characters(tokenizer: LibraryTokenizer) -> None:
    text = "Der Fluß fließt."
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert ids == tokenizer.encode(text)
    assert len(offsets) == len(ids)
    starts, ends = zip(*offsets, strict=True)
    assert list(starts) == sorted(starts)
    assert list(ends) == sorted(ends)
    assert {character for start, end in offsets for character in text[start:end]} | {" "} == set(text)


TEXTS = st.lists(
    st.sampled_from(
        ["a", "B", "word", " ", "  ", "\n", ".", "é", "中文", "🙂", "\u200b", "\ufdfa", "ﱞ", "\u0301", "1"]
    )
).map("".join)


@settings(max_examples=200, deadline=None)
@given(text=TEXTS, size=st.integers(1, 7), block=st.integers(1, 12))
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_stream_has_the_ids_of_the_whole(
    algorithm: str, train: Callable[[str], LibraryTokenizer], text: str, size: int, block: int
) -> None:
    tokenizer, encoded = train(algorithm), text.encode()
    expected = tokenizer.encode_ordinary(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library_texts, "_BLOCK_CHARACTERS", block)
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        assert list(tokenizer.encode_iterable(pieces)) == expected
        chunks = [encoded[start : start + size] for start in range(0, len(encoded), size)]
        assert list(tokenizer.encode_iterable(chunks)) == expected


def test_a_stream_is_encoded_while_it_comes(
    train: Callable[[str], LibraryTokenizer], documents: list[str]
) -> None:
    read = 0

    def stream() -> Any:
        nonlocal read
        for number in range(20):
            read = number
            yield documents[0]

    next(train("wordpiece").encode_iterable(stream()))
    assert read < 10


@given(pieces=st.lists(st.text("ab \n", max_size=5)))
def test_cutting_keeps_the_text(pieces: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library_texts, "_BLOCK_CHARACTERS", 3)
        assert "".join(cut_at_spaces(pieces)) == "".join(pieces)


@settings(max_examples=200, deadline=None)
@given(ids=st.lists(st.integers(0, 700)))
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_stream_joins_to_the_decoded_text(
    algorithm: str, train: Callable[[str], LibraryTokenizer], ids: list[int]
) -> None:
    tokenizer = train(algorithm)
    parts = list(tokenizer.decode_stream(iter(ids)))
    assert "".join(parts) == tokenizer.decode(ids)
    assert all(parts)


def test_a_stream_never_splits_a_character(train: Callable[[str], LibraryTokenizer]) -> None:
    tokenizer = train("unigram-bytes")
    ids = tokenizer.encode("a🙂b鿿")
    assert len(ids) > 5
    assert "".join(tokenizer.decode_stream(ids)) == "a🙂b鿿"
    assert not any("\ufffd" in part for part in tokenizer.decode_stream(ids))


@pytest.mark.parametrize("bad", [-1, 1 << 33, 2999 + 1])
def test_unknown_ids_are_refused(train: Callable[[str], LibraryTokenizer], bad: int) -> None:
    with pytest.raises(UserError, match=f"id {bad} is not in the vocabulary"):
        train("wordpiece").decode([0, bad])


def test_equality_fingerprint_and_pickle(train: Callable[[str], LibraryTokenizer]) -> None:
    all_kinds = [train(algorithm) for algorithm in ALGORITHMS]
    assert len({*all_kinds}) == len({one.fingerprint for one in all_kinds}) == len(ALGORITHMS)
    for tokenizer in all_kinds:
        copy = pickle.loads(pickle.dumps(tokenizer))
        assert copy == tokenizer
        assert (hash(copy), copy.mask_token) == (hash(tokenizer), tokenizer.mask_token)
        assert copy.encode("some text") == tokenizer.encode("some text")
    assert all_kinds[0] != "tokenizer"


def test_threads_may_share_one(train: Callable[[str], LibraryTokenizer], documents: list[str]) -> None:
    tokenizer = train("wordpiece")
    expected = [tokenizer.encode(document) for document in documents]
    with ThreadPoolExecutor(4) as pool:
        for ids in pool.map(lambda _: [tokenizer.encode(document) for document in documents], range(8)):
            assert ids == expected


def test_files_strings_and_bytes_are_the_same_text(documents: list[str], tmp_path: Path) -> None:
    for number, document in enumerate(documents):
        (tmp_path / str(number)).write_text(document, "utf-8", newline="")
    for document, path in zip(documents, sorted(tmp_path.iterdir()), strict=True):
        for form in (path, document.encode(), document):
            assert "".join(training_texts([form])) == document


def test_a_large_file_comes_in_parts(tmp_path: Path) -> None:
    (tmp_path / "large").write_text("word " * 1_000_000)
    assert max(map(len, training_texts([tmp_path / "large"]))) < 2_000_000


def test_progress_rises_to_one(documents: list[str]) -> None:
    seen: list[float] = []
    LibraryTokenizer.train_from_iterator(documents, 3000, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[0] == pytest.approx(1 / 3)
    assert seen[-1] == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"algorithm": "bpe"}, "unknown algorithm 'bpe'"),
        ({"documents": "one text"}, "give a list of documents"),
        ({"documents": Path("x")}, "give a list of documents"),
        ({"documents": [Path("nowhere")]}, "cannot read nowhere: No such file"),
        ({"vocabulary_size": 5}, "leaves no place"),
        ({"special_tokens": ["[PAD]"]}, r"needs the special token '\[UNK\]'"),
        ({"special_tokens": "[UNK]"}, "list of distinct strings"),
        ({"special_tokens": ["[UNK]", "[UNK]"]}, "list of distinct strings"),
        ({"algorithm": "unigram", "min_frequency": 2}, "min_frequency 2 is for wordpiece"),
        ({"algorithm": "unigram", "vocabulary_size": 6}, "cannot train unigram with vocabulary_size 6"),
        ({"vocabulary_size": 20}, "vocabulary_size 20 is too small: .* alone make 2[0-9]"),
    ],
)
def test_unusable_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        LibraryTokenizer.train(**{"documents": ["some words to learn from"], "vocabulary_size": 300} | arguments)
    assert "\n" not in str(caught.value)


def test_files_that_the_package_does_not_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*No such file"):
        LibraryTokenizer.load(tmp_path)
    for content in (b"", b"{}", b'{"model": {"type": "X"}}', b"\xff"):
        (tmp_path / "tokenizer.json").write_bytes(content)
        with pytest.raises(UserError, match="is not read by the package tokenizers: ") as caught:
            LibraryTokenizer.load(tmp_path)
        assert "\n" not in str(caught.value)


def test_a_missing_package_is_named() -> None:
    code = """
import sys
sys.modules["tokenizers"] = None
from groundup.errors import UserError
from groundup.tokenizer.library import LibraryTokenizer
for use in (lambda: LibraryTokenizer.train(["a"], 300), lambda: LibraryTokenizer("{}")):
    try:
        use()
    except UserError as error:
        print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    message = "WordPiece and Unigram need the package tokenizers: pip install 'groundup[tokenizers]'"
    assert run.stdout.splitlines() == [message] * 2


def test_chat_templates_and_roles_are_kept(tokenizer: LibraryTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    LibraryTokenizer.load(tmp_path).save(tmp_path / "again")
    assert (tmp_path / "again" / "chat_template.jinja").read_text() == "{{ messages }}"
    assert json.loads((tmp_path / "again" / "tokenizer_config.json").read_text()) == config
