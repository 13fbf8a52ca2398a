import gzip
import json
import lzma
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.data.pairs import Pairs, pair_rows, read_pairs
from groundup.errors import UserError
from groundup.tokenizer import Tokenizer

PAIRS = [("a dog", "ein Hund"), ("你好。", "hello"), ("x", "y z")]
SPECIAL = ["<|endoftext|>", "<|sep|>", "<|pad|>"]
END, SEPARATOR = 256, 257


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Bytes, then the special tokens."""
    return Tokenizer.train(["a"], vocabulary_size=256 + len(SPECIAL), special_tokens=SPECIAL)


def _json_lines(path: Path, records: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def _records(*more: str) -> list[dict[str, object]]:
    return [{"en": source, "de": target} | dict.fromkeys(more, "other") for source, target in PAIRS]


def test_two_fields_are_the_pair_in_their_order(tmp_path: Path) -> None:
    read = read_pairs([_json_lines(tmp_path / "pairs.jsonl", _records())])
    assert read == Pairs(PAIRS, "en", "de")


def test_fields_can_be_named(tmp_path: Path) -> None:
    file = _json_lines(tmp_path / "pairs.jsonl", _records("fr"))
    assert read_pairs([file], source_field="de", target_field="en").pairs == [(b, a) for a, b in PAIRS]
    two = _json_lines(tmp_path / "two.jsonl", _records())
    assert read_pairs([two], target_field="en") == Pairs([(b, a) for a, b in PAIRS], "de", "en")
    assert read_pairs([two], source_field="de") == read_pairs([two], target_field="en")


def test_numbers_beside_two_texts_do_not_matter(tmp_path: Path) -> None:
    records = [{"id": number} | record for number, record in enumerate(_records())]
    assert read_pairs([_json_lines(tmp_path / "pairs.jsonl", records)]).pairs == PAIRS


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
@pytest.mark.parametrize("kind", [".jsonl", ".tsv"])
def test_files_may_be_compressed(kind: str, suffix: str, tmp_path: Path) -> None:
    table = "".join(f"{source}\t{target}\r\n" for source, target in PAIRS) + "\n"
    text = table if kind == ".tsv" else "".join(json.dumps(record) + "\n" for record in _records())
    pack = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress}[suffix]
    file = tmp_path / f"pairs{kind}{suffix}"
    file.write_bytes(pack(text.encode()))
    assert read_pairs([str(file)]).pairs == PAIRS
    assert read_pairs([str(file), str(tmp_path)]).pairs == 2 * PAIRS  # a folder too


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        (
            "a.jsonl",
            json.dumps({"en": "a", "de": "b", "fr": "c"}),
            "en, de, fr; choose with --set data.source_field",
        ),
        ("a.jsonl", json.dumps({"en": "a"}), "Those that hold text are: en;"),
        ("a.jsonl", json.dumps({"en": "a", "de": "b"}) + "\n" + json.dumps({"en": "a"}), "line 2: no field 'de'"),
        ("a.jsonl", json.dumps({"en": "a", "de": "b"}) + "\n" + '{"en": 1, "de": "x"}', "'en' is int, not text"),
        ("a.jsonl", "[]", "not a JSON object"),
        ("a.jsonl", "", "no pairs of texts"),
        ("a.tsv", "a\tb\nc\n", "line 2: 1 columns instead of two"),
        ("a.tsv", "a\tb\tc\n", "line 1: 3 columns instead of two"),
        ("a.txt", "a\tb\n", "holds no pairs of texts"),
    ],
)
def test_what_holds_no_pairs_is_said_in_a_line(name: str, content: str, named: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=named) as caught:
        read_pairs([str(tmp_path / name)])
    assert "\n" not in str(caught.value)


def test_an_unknown_field_names_those_that_are_there(tmp_path: Path) -> None:
    file = _json_lines(tmp_path / "pairs.jsonl", _records("fr"))
    with pytest.raises(UserError, match="no field 'es'; the fields are: de, en, fr"):
        read_pairs([file], source_field="en", target_field="es")
    with pytest.raises(UserError, match="both 'en'"):
        read_pairs([file], source_field="en", target_field="en")


def test_broken_text_is_read_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_bytes(b"caf\xe9\tb\n")
    (tmp_path / "pairs.jsonl").write_text('{"en": "\\ud800", "de": "b"}')
    for name in ("pairs.tsv", "pairs.jsonl"):
        ((source, _),) = read_pairs([str(tmp_path / name)]).pairs
        assert "\ufffd" in source
        source.encode()


def test_a_row_is_source_separator_target_end(tokenizer: Tokenizer) -> None:
    rows = pair_rows([("ab", "c")], tokenizer, context=7, seed=0)
    a, b, c = tokenizer.encode_ordinary("abc")
    assert rows.windows(0, 1).tolist() == [[a, b, SEPARATOR, c, END, -1, -1, -1]]
    assert rows.windows(0, 1).dtype == np.int64


def test_the_name_of_a_special_token_in_a_text_is_text(tokenizer: Tokenizer) -> None:
    rows = pair_rows([("<|sep|>", "<|endoftext|>")], tokenizer, context=40, seed=0).windows(0, 1)[0]
    assert (rows == SEPARATOR).sum() == (rows == END).sum() == 1


_TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_TEXTS, _TEXTS), max_size=12), st.integers(8, 24), st.integers(0, 9))
def test_rows_hold_every_pair_that_fits_once_an_epoch(
    pairs: list[tuple[str, str]], context: int, seed: int
) -> None:
    tokenizer = Tokenizer.train(["a"], vocabulary_size=256 + len(SPECIAL), special_tokens=SPECIAL)
    fitting = [(a, b) for a, b in pairs if a and b and len((a + b).encode()) + 2 <= context + 1]
    if not fitting:
        with pytest.raises(UserError, match=f"none of {len(pairs)} pairs fits into a context of {context}"):
            pair_rows(pairs, tokenizer, context, seed)
        return
    rows = pair_rows(pairs, tokenizer, context, seed)
    assert (rows.num_rows, rows.skipped) == (len(fitting), len(pairs) - len(fitting))
    assert rows.num_target_bytes == sum(len(target.encode()) for _, target in fitting)
    for epoch in range(2):
        found = []
        for row in rows.windows(epoch * rows.num_rows, rows.num_rows).tolist():
            assert len(row) == context + 1
            middle, end = row.index(SEPARATOR), row.index(END)
            assert set(row[end + 1 :]) <= {-1}
            found.append((tokenizer.decode(row[:middle]), tokenizer.decode(row[middle + 1 : end])))
        assert sorted(found) == sorted(fitting)


def test_batches_are_a_pure_function(tokenizer: Tokenizer) -> None:
    """The same stretch whatever was read before; another order every epoch and with every seed."""
    pairs = [(str(number), str(number + 1)) for number in range(50)]
    rows, again = (pair_rows(pairs, tokenizer, 8, seed=3) for _ in range(2))
    whole = rows.windows(0, 150)
    parts = [again.windows(first, count) for first, count in ((60, 90), (0, 7), (7, 53))]
    assert np.array_equal(whole, np.concatenate([parts[1], parts[2], parts[0]]))
    assert not np.array_equal(whole[:50], whole[50:100])
    assert not np.array_equal(whole[:50], pair_rows(pairs, tokenizer, 8, seed=4).windows(0, 50))
    assert rows.epoch(75) == 1.5


def test_a_part_can_be_held_out() -> None:
    pairs = Pairs([(str(number), "x") for number in range(200)], "en", "de")
    train, held_out = pairs.divided(0.1, seed=1)
    assert (len(train.pairs), len(held_out.pairs)) == (180, 20)
    assert sorted(train.pairs + held_out.pairs) == sorted(pairs.pairs)
    assert (held_out.source_field, held_out.target_field) == ("en", "de")
    assert pairs.divided(0.1, seed=1) == (train, held_out)
    assert pairs.divided(0.1, seed=2)[1] != held_out
    assert [len(part.pairs) for part in Pairs(pairs.pairs[:2]).divided(0.0001, seed=1)] == [1, 1]
    with pytest.raises(UserError, match="1 pairs are too few"):
        Pairs(pairs.pairs[:1]).divided(0.1, seed=1)


def test_a_tokenizer_without_a_separator_is_refused() -> None:
    with pytest.raises(UserError, match=r"no special token <\|sep\|>"):
        pair_rows(PAIRS, Tokenizer.train(["a"], vocabulary_size=257), 20, seed=0)


@pytest.mark.shared
def test_real_pairs_fit(shared_data: Path) -> None:
    """Captions of a few words each: none is too long for 128 tokens of a trained vocabulary."""
    file = str(shared_data / "translation" / "multi30k_val_en_de_fr.jsonl.xz")
    pairs = read_pairs([file], source_field="en", target_field="de").pairs
    assert len(pairs) == 1014
    assert pairs[1] == (
        "A man sleeping in a green room on a couch.",
        "Ein Mann schläft in einem grünen Raum auf einem Sofa.",
    )
    texts = [text.encode() for pair in pairs for text in pair]
    tokenizer = Tokenizer.train(texts, 2048, special_tokens=SPECIAL)
    assert pair_rows(pairs, tokenizer, 128, seed=0).skipped == 0
