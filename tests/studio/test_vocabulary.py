from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.studio.vocabulary import kind_of, visible, vocabulary_figures
from groundup.tokenizer import Tokenizer

from . import fake_run


def test_every_token_has_one_kind(tmp_path: Path):
    run = fake_run.new_run(tmp_path / "run")
    tokenizer = fake_run.add_tokenizer(run)
    figures = vocabulary_figures(run.tokenizer)
    assert sum(kind["tokens"] for kind in figures["kinds"]) == tokenizer.vocabulary_size == 300
    assert sum(kind["share"] for kind in figures["kinds"]) == pytest.approx(1)
    assert [kind["tokens"] for kind in figures["kinds"] if kind["name"] == "special tokens"] == [1]


def test_examples_are_cut_as_the_tokenizer_cuts_them(tmp_path: Path):
    run = fake_run.new_run(tmp_path / "run")
    tokenizer = fake_run.add_tokenizer(run)
    for example in vocabulary_figures(run.tokenizer)["examples"]:
        ids = [token["id"] for token in example["tokens"]]
        text = tokenizer.decode(ids)
        assert tokenizer.encode(text) == ids
        assert example["num_tokens"] == len(ids)
        assert example["bytes_per_token"] == len(text.encode()) / len(ids)


def test_longest_and_first_tokens(tmp_path: Path):
    Tokenizer.train(["the the the the cathedral cathedral"] * 5, vocabulary_size=280).save(tmp_path)
    figures = vocabulary_figures(tmp_path)
    assert figures["longest"][0] == "␣cathedral"
    assert "the" in "".join(figures["first_merges"][:3])


def test_a_folder_without_tokenizer_gives_nothing(tmp_path: Path):
    assert vocabulary_figures(tmp_path) == {}


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        (b" the", "Latin letters"),
        ("é".encode(), "Latin letters"),
        ("春天".encode(), "Chinese characters"),
        ("かな".encode(), "Japanese kana"),
        ("Дом".encode(), "Cyrillic letters"),
        ("שלום".encode(), "other letters"),
        (b" 2026", "digits"),
        (b"();", "punctuation and symbols"),
        (b"\n\n  ", "white space and control characters"),
        ("春".encode()[:2], "parts of characters"),
        (b"\xff", "parts of characters"),
    ],
)
def test_kinds(token: bytes, kind: str):
    assert kind_of(token) == kind


@given(st.binary(min_size=1, max_size=8) | st.text(min_size=1, max_size=8).map(lambda text: text.encode()))
def test_any_token_has_a_kind_and_can_be_seen(token: bytes):
    assert kind_of(token)
    assert visible(token).isprintable()
    assert visible(token).strip()
