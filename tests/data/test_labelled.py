import json
import lzma
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.data.labelled import LabelledRows, encode_texts, read_labelled, read_parts, stratified
from groundup.errors import UserError
from groundup.tokenizer import Tokenizer

LINES = [("a fine film", "good"), ("dull, and long", "bad"), ("it has\ttwo sides", "good")]


def as_json_lines(text: str = "text", label: str = "label") -> bytes:
    return "".join(json.dumps({label: name, text: words}) + "\n\n" for words, name in LINES).encode()


FILES: dict[str, bytes] = {
    "a.jsonl": as_json_lines(),
    "b.ndjson": as_json_lines("sentence", "sentiment"),
    "c.jsonl.xz": lzma.compress(as_json_lines("review", "class")),
    "d.csv": b'\xef\xbb\xbflabel,content\ngood,a fine film\r\nbad,"dull, and long"\ngood,it has\ttwo sides\n',
    "e.tsv": b'label\ttext_a\ngood\ta fine film\nbad\tdull, and long\ngood\t"it has\ttwo sides"\n',
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_texts_and_labels(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    found = read_labelled(tmp_path / name)
    assert list(zip(found.texts, found.labels, strict=True)) == LINES
    assert found.names == ["bad", "good"]
    assert found.numbers(found.names).tolist() == [1, 0, 1]


def test_fields_are_those_that_were_asked_for(tmp_path: Path) -> None:
    row = {"text": "not this", "label": "nor this", "body": "the words", "stars": 5}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    found = read_labelled(tmp_path / "a.jsonl", text_field="body", label_field="stars")
    assert (found.texts, found.labels) == (("the words",), ("5",))


def test_numbers_are_sorted_by_size(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"word,{number}\n" for number in (10, 9, -1, 10)))
    assert read_labelled(tmp_path / "a.csv").names == ["-1", "9", "10"]


BAD: dict[str, tuple[str, str, list[str]]] = {
    "no such file": ("", "", ["a.jsonl", "No such file"]),
    "another kind of file": ("a.docx", "x", ["a.docx", ".jsonl, .ndjson, .csv, .tsv"]),
    "nothing": ("a.jsonl", "\n", ["a.jsonl has no examples"]),
    "no JSON": ("a.jsonl", '{"text": "a", "label": 1}\n{"text"\n', ["a.jsonl, line 2", "not JSON"]),
    "no text": ("a.jsonl", '{"text": "a", "label": 1}\n\n{"label": 1}\n', ["line 3", "'text' is None"]),
    "an empty text": ("a.jsonl", '{"text": " ", "label": 1}', ["line 1", "'text' is ' '"]),
    "a fraction": ("a.jsonl", '{"text": "a", "label": 0.5}', ["line 1", "'label' is 0.5"]),
    "unknown fields": ("a.jsonl", '{"txt": "a", "label": 1}', ["line 1", "txt, label", "--text-field"]),
    "no label in CSV": ("a.csv", "text,label\na,1\nb\n", ["line 3", "'label' is None"]),
    "a field too long for CSV": ("a.csv", f'text,label\n"{"a" * 200_000}",1\n', ["a.csv, line", "not CSV"]),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_with_its_line(name: str, tmp_path: Path) -> None:
    file, content, expected = BAD[name]
    if file:
        (tmp_path / file).write_text(content)
    with pytest.raises(UserError) as error:
        read_labelled(tmp_path / (file or "a.jsonl"))
    for part in expected:
        assert part in str(error.value)


@settings(deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 1 << 40),
)
def test_a_split_is_a_partition_that_keeps_the_shares(labels: list[int], share: float, seed: int) -> None:
    labels_N = np.array(labels)
    first, second = stratified(labels_N, share, seed)
    assert sorted([*first, *second]) == list(range(len(labels)))
    for label, count in Counter(labels).items():
        held_out = int((labels_N[second] == label).sum())
        assert abs(held_out - share * count) <= 1
        assert count == 1 or 0 < held_out < count
    again = stratified(labels_N, share, seed)
    assert np.array_equal(first, again[0])
    assert np.array_equal(second, again[1])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """200 texts of three labels, of which one is rare."""
    rows = [
        {"text": f"text {number}", "label": "rare" if number % 20 == 0 else "ab"[number % 2]}
        for number in range(200)
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_parts_do_not_overlap_and_follow_from_the_seed(file: Path) -> None:
    train, test = read_parts(file, seed=1)
    assert (len(train), len(test)) == (160, 40)
    assert not set(train.texts) & set(test.texts)
    assert read_parts(file, seed=1) == (train, test)
    assert read_parts(file, seed=2) != (train, test)


def test_few_of_each_label(file: Path) -> None:
    everything, test = read_parts(file, seed=1)
    train, measured = read_parts(file, seed=1, per_label=8)
    assert Counter(train.labels) == {"a": 8, "b": 8, "rare": 8}
    assert set(train.texts) <= set(everything.texts)
    assert measured == test
    with pytest.raises(UserError, match=r"'rare' has 8 examples .* at most 8"):
        read_parts(file, seed=1, per_label=9)


def test_parts_that_cannot_be_learnt_from(file: Path, tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("text,label\nx,1\ny,1\n")
    (tmp_path / "other.csv").write_text("text,label\nx,a\ny,bb\n")
    with pytest.raises(UserError, match="two labels or more"):
        read_parts(tmp_path / "one.csv")
    with pytest.raises(UserError, match="label 'bb' does not occur in the training data"):
        read_parts(file, tmp_path / "other.csv")


@settings(deadline=None, max_examples=12)
@given(count=st.integers(1, 40), first=st.integers(0, 60), cut=st.integers(1, 20), seed=st.integers(0, 1 << 40))
def test_rows_are_one_endless_order_of_permutations(count: int, first: int, cut: int, seed: int) -> None:
    rows = LabelledRows(np.arange(count) % 3, np.arange(count)[:, None] * [1, 10], seed)
    for epoch in range(2):
        of_epoch = rows.windows(epoch * count, count)
        assert sorted(of_epoch[:, 1]) == list(range(count))
        assert np.array_equal(of_epoch[:, 0], of_epoch[:, 1] % 3)
        assert np.array_equal(of_epoch[:, 2], of_epoch[:, 1] * 10)
    whole = rows.windows(first, cut + 7)
    assert whole.dtype == np.int64
    assert np.array_equal(whole, np.concatenate([rows.windows(first, cut), rows.windows(first + cut, 7)]))


def test_ids_begin_with_the_border_and_are_cut_off_or_padded(tokenizer: Tokenizer) -> None:
    texts = ["the lazy dog", "fox", "the quick brown fox jumps over the lazy dog; le cœur"]
    ids = encode_texts(texts, tokenizer, 6)
    assert ids.shape == (3, 6)
    for text, row in zip(texts, ids.tolist(), strict=True):
        expected = [tokenizer.end_of_text, *tokenizer.encode_ordinary(text)]
        assert row == (expected + [-1] * 6)[:6]
    assert encode_texts(["fox"], tokenizer, 512).shape == (1, 1 + len(tokenizer.encode_ordinary("fox")))


def test_a_text_stands_in_the_frame_of_its_model() -> None:
    special = ["<|endoftext|>", "<|cls|>", "<|sep|>"]
    tokenizer = Tokenizer.train(["a"], 259, special_tokens=special)
    end, cls, sep = (tokenizer.special_tokens[token] for token in special)
    letters = tokenizer.encode_ordinary("abcd")
    assert encode_texts(["abcd", ""], tokenizer, 5, "enclosed").tolist() == [
        [cls, *letters[:3], sep],
        [cls, sep, -1, -1, -1],
    ]
    assert encode_texts(["abcd", ""], tokenizer, 5, "alone").tolist() == [letters, [end, -1, -1, -1]]
    with pytest.raises(UserError, match="put the tokenizer there that it was trained with"):
        encode_texts(["a"], Tokenizer.train(["a"], 257), 5, "enclosed")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "examples", "labels"),
    [("sst2_train", 6920, "0 1"), ("agnews_valid", 600, "0 1 2 3"), ("movie_reviews_train", 1600, "neg pos")],
)
def test_real_files(shared_data: Path, name: str, examples: int, labels: str) -> None:
    found = read_labelled(shared_data / "classification" / f"{name}.jsonl.xz")
    assert len(found) == examples
    assert " ".join(found.names).replace("1 2 3 4", "0 1 2 3") == labels
