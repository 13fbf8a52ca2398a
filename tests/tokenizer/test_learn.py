"""Learning from documents: counting on several threads, files read in blocks, and the merges of both."""

import json
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, models, pre_tokenizers, trainers

from groundup.tokenizer import learn
from groundup.tokenizer.alphabet import from_characters
from groundup.tokenizer.learn import Document, Options, learn_merges
from groundup.tokenizer.native import TIES
from groundup.tokenizer.pretokenize import PATTERNS, as_bytes, as_text, splitter

from . import reference_trainer
from .conftest import Running
from .strategies import LONG_TEXT

Merges = list[tuple[bytes, bytes]]
Run = Callable[[str], Running]
WHOLE = r"[\s\S]+"


def counted(documents: Iterable[str | bytes], pattern: str) -> Counter[bytes]:
    split = splitter(pattern)
    return Counter(as_bytes(piece) for document in documents for piece in split(as_text(document)))


def hugging_face_merges(
    documents: Iterable[str], num_merges: int, pattern: str, min_frequency: int = 0
) -> list[tuple[bytes, bytes]]:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=256 + num_merges,
        min_frequency=min_frequency,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(from_characters(left), from_characters(right)) for left, right in merges]


# Few letters make runs ("aaaa") and ties, where implementations differ.
DOCUMENTS = st.lists(st.text("ab \n") | st.text("aAbé中🙂1 '\r\n") | st.binary() | LONG_TEXT, max_size=8)


@pytest.mark.parametrize("ties", TIES)
def test_merges_are_those_of_the_reference(ties: str, code_paths: list[str], running: Run) -> None:
    @settings(max_examples=60, deadline=None)
    @given(
        DOCUMENTS,
        st.sampled_from([*PATTERNS.values(), WHOLE]),
        st.integers(0, 40),
        st.integers(0, 4),
        st.sampled_from([1, 2, 5]),
    )
    def on_any_text(
        documents: list[str | bytes], pattern: str, num_merges: int, min_frequency: int, threads: int
    ) -> None:
        expected = reference_trainer.train(counted(documents, pattern), num_merges, ties, min_frequency)
        options = Options(
            pattern=pattern, num_merges=num_merges, min_frequency=min_frequency, ties=ties, threads=threads
        )
        for path in code_paths:
            with running(path):
                assert learn_merges(documents, options) == expected, path

    on_any_text()


@pytest.mark.parametrize("ties", TIES)
def test_merges_are_those_of_the_reference_on_real_text(ties: str, code_path: str, texts: dict[str, str]) -> None:
    documents = [text[:1500] for text in texts.values()]
    pattern = PATTERNS["o200k"]
    expected = reference_trainer.train(counted(documents, pattern), 120, ties)
    assert len(expected) == 120
    assert learn_merges(documents, Options(pattern=pattern, num_merges=120, ties=ties, threads=2)) == expected


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_merges_are_those_of_hugging_face_on_real_text(
    texts: dict[str, str], pattern: str, code_paths: list[str], running: Run
) -> None:
    expected = hugging_face_merges(texts.values(), 3000, pattern)
    assert len(expected) == 3000
    for path in code_paths[:1] if pattern == PATTERNS["cl100k"] else code_paths[-1:]:
        with running(path):
            assert learn_merges(texts.values(), Options(pattern=pattern, num_merges=3000, threads=2)) == expected


@pytest.mark.parametrize("min_frequency", [2, 20, 10**9])
def test_rare_pairs_are_left_as_by_hugging_face(min_frequency: int, code_path: str, texts: dict[str, str]) -> None:
    pattern = PATTERNS["gpt2"]
    documents = [text[:20_000] for text in texts.values()]
    expected = hugging_face_merges(documents, 20_000, pattern, min_frequency)
    assert len(expected) < 20_000
    options = Options(pattern=pattern, num_merges=20_000, min_frequency=min_frequency)
    assert learn_merges(documents, options) == expected


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text("ab \n") | st.text("aAbé中🙂1 '\r\n") | LONG_TEXT, max_size=8),
    st.sampled_from([*PATTERNS.values(), WHOLE]),
    st.integers(0, 120),
)
def test_merges_are_those_of_hugging_face_on_any_text(documents: list[str], pattern: str, num_merges: int) -> None:
    ours = learn_merges(documents, Options(pattern=pattern, num_merges=num_merges))
    assert ours == hugging_face_merges(documents, num_merges, pattern)


@pytest.mark.parametrize("pattern", [PATTERNS["qwen2"], r"\p{L}+|\s"])
def test_neither_threads_nor_batches_decide(
    pattern: str, code_path: str, texts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [part for text in texts.values() for part in text[:30_000].splitlines(keepends=True)]
    expected = learn_merges(documents, Options(pattern=pattern, num_merges=600))
    monkeypatch.setattr(learn, "_BLOCK_BYTES", 1000)
    for threads in (1, 2, 5):
        options = Options(pattern=pattern, num_merges=600, threads=threads)
        assert learn_merges(iter(documents), options) == expected
        assert learn_merges(documents[::-1], options) == expected


def test_counts_grow_beyond_their_first_tables(code_path: str) -> None:
    random = Random(0)
    words = ["".join(random.choices("abcdefgh", k=random.choice([3, 6, 9, 12, 20, 40]))) for _ in range(12_000)]
    pattern = r"[a-z]+|\s"
    documents = [" ".join(words), " ".join(words[:5000])]
    counts = counted(documents, pattern)
    assert len(counts) > 9_000
    expected = reference_trainer.train(counts, 3)
    assert learn_merges(documents, Options(pattern=pattern, num_merges=3, threads=2)) == expected


@pytest.mark.parametrize("pattern", [*PATTERNS.values(), r"\p{L}+|\s+"], ids=[*PATTERNS, "own"])
@pytest.mark.parametrize("block", [1, 7, 64, 5000])
def test_a_file_in_blocks_is_the_text_at_once(
    pattern: str,
    block: int,
    code_path: str,
    tmp_path: Path,
    texts: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    characters = block * 40 if block < 100 else 30_000
    odd = "a\n  \nb\r\n\r\n don't 12345 (x)\n\n\n中文。\n字  \n\t\tq's/\n/ \u3000\n!\ne\u0301\n" * 3
    data = b"".join((text[:characters] + odd).encode() for text in texts.values()) + b"\xe4\xb8\n\xffab \xc3"
    (tmp_path / "file").write_bytes(data)
    (tmp_path / "empty").write_bytes(b"")
    options = Options(pattern=pattern, num_merges=300, threads=2)
    expected = learn_merges([data, "xyz"], options)
    assert len(expected) > 120
    monkeypatch.setattr(learn, "_BLOCK_BYTES", block)
    assert learn_merges([tmp_path / "file", "xyz", tmp_path / "empty"], options) == expected


def test_the_same_bytes_are_counted_together(code_path: str) -> None:
    documents: list[Document] = ["é", "\udcc3\udca9", "xy", "xy", "xy"]
    merges = learn_merges([*documents, "é", "é"], Options(pattern=PATTERNS["cl100k"], num_merges=1))
    assert merges == [(b"\xc3", b"\xa9")]


@pytest.mark.parametrize("threads", [1, 3])
def test_documents_are_dropped_after_counting(
    threads: int, code_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, num_documents = 20_000, 150
    monkeypatch.setattr(learn, "_BLOCK_BYTES", size)

    def stream() -> Iterator[bytes]:
        for number in range(num_documents):
            yield (b"document %d " % number) * (size // 13)

    tracemalloc.start()
    merges = learn_merges(stream(), Options(pattern=PATTERNS["gpt2"], num_merges=8, threads=threads))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert b"document" in [left + right for left, right in merges]
    assert peak < num_documents * size / 2  # two batches a thread, and the pieces of one in plain Python


class Broken(Exception):
    pass


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_among_the_documents_is_not_hidden(threads: int, code_path: str) -> None:
    def documents() -> Iterator[str]:
        yield "some text"
        raise Broken

    with pytest.raises(Broken):
        learn_merges(documents(), Options(pattern=PATTERNS["gpt2"], num_merges=7, threads=threads))
    with pytest.raises(FileNotFoundError):
        learn_merges([Path("no such file")], Options(pattern=PATTERNS["gpt2"], num_merges=7, threads=threads))


def test_an_error_in_progress_ends_it(code_path: str, texts: dict[str, str]) -> None:
    seen: list[float] = []

    def progress(done: float) -> None:
        seen.append(done)
        if done > 0.7:
            raise Broken

    with pytest.raises(Broken):
        learn_merges(texts.values(), Options(pattern=PATTERNS["gpt2"], num_merges=500), progress)
    assert 0.7 < seen[-1] < 0.8


@pytest.mark.parametrize("num_merges", [0, 7, 1000])
@pytest.mark.parametrize("documents", [[], ["abab"], ["abab cdcd efef ghgh ", "ijij klkl mnmn"]])
def test_progress_rises_to_one(code_path: str, num_merges: int, documents: list[str]) -> None:
    for sized in (documents, (document for document in documents)):
        seen: list[float] = []
        learn_merges(sized, Options(pattern=PATTERNS["cl100k"], num_merges=num_merges), seen.append)
        assert seen == sorted(seen)
        assert seen[-1] == 1.0
        assert len(seen) <= 103


def test_progress_moves_while_a_file_is_read(
    code_path: str, tmp_path: Path, texts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learn, "_BLOCK_BYTES", 10_000)
    (tmp_path / "file").write_text(texts["english"])
    seen: list[float] = []
    learn_merges([tmp_path / "file"], Options(pattern=PATTERNS["cl100k"], num_merges=10), seen.append)
    counting = [done for done in seen if done < 0.5]
    assert len(set(counting)) >= 5  # the text has ten blocks, and a batch is one or two
    assert seen == sorted(seen)
