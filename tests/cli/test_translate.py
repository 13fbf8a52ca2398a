"""`groundup translate`, on a model folder with random weights."""

import io
import json
from pathlib import Path

import pytest

from groundup.cli.main import main
from groundup.model import folder as model_folder
from groundup.model.registry import build_any
from groundup.shape import FAMILIES, Shape
from groundup.tokenizer import Tokenizer

_NUMBERS = {"num_layers": 1, "width": 16, "num_heads": 2, "num_kv_heads": 2, "head_width": 8, "context": 24}


def _save(family: str, folder: Path) -> Path:
    special = ["<|endoftext|>", *FAMILIES[family].special_tokens]
    tokenizer = Tokenizer.train(["a"], vocabulary_size=256 + len(special), special_tokens=special)
    shape = Shape(family=family, feedforward_width=24, vocabulary_size=tokenizer.vocabulary_size, **_NUMBERS)
    model_folder.save(folder, build_any(shape, seed=1), tokenizer, "# card\n", {})
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(_save("transformer", tmp_path_factory.mktemp("models") / "translator"))


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    """In which targets are twice the first letter."""
    file = tmp_path / "pairs.jsonl"
    file.write_text(
        "".join(json.dumps({"en": text, "de": 2 * text[0], "fr": "x"}) + "\n" for text in ("ab", "cd"))
    )
    return str(file)


def test_a_text_is_translated(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["translate", model, "ab", "--beams", "2", "--json"]) == 0
    (translation,) = json.loads(capsys.readouterr().out)["translations"]
    assert main(["translate", model, "ab", "--beams", "2"]) == 0
    assert capsys.readouterr().out == translation + "\n"
    assert translation


def test_standard_input_is_translated_line_by_line(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = []
    for text in ("ab", "c"):
        assert main(["translate", model, text]) == 0
        alone.append(capsys.readouterr().out)
    monkeypatch.setattr("sys.stdin", io.StringIO("ab\n\nc\n"))
    assert main(["translate", model, "-"]) == 0
    assert capsys.readouterr().out == f"{alone[0]}\n{alone[1]}"


def test_pairs_are_measured(model: str, pairs: str, capsys: pytest.CaptureFixture[str]) -> None:
    fields = ["--source-field", "en", "--target-field", "de"]
    assert main(["translate", model, "--data", pairs, *fields, "--beams", "1", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["pairs"], figures["beams"]) == (2, 1)
    assert 0 <= figures["bleu"] <= 100
    assert "tok:13a" in figures["bleu_signature"]
    assert main(["translate", model, "--data", pairs, *fields, "--limit", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("BLEU  ")
    assert "chrF  " in out


def test_errors_are_one_line(model: str, pairs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = str(_save("gpt2", tmp_path / "gpt2"))
    for arguments, named in (
        ([model], "give either a text"),
        ([model, "a", "--data", pairs], "give either a text"),
        ([model, "--data", pairs], "Those that hold text are: en, de, fr"),
        ([model, "--data", pairs, "--source-field", "es", "--target-field", "de"], "no field 'es'"),
        ([model, "--data", str(tmp_path / "no.jsonl")], "no such file"),
        ([model, "a" * 25], "more than the model's context of 24"),
        ([writer, "a"], "of the family gpt2 does not translate"),
        ([str(tmp_path), "a"], "neither a run nor a model folder"),
        ([model, "a", "--beams", "0"], "beams"),
    ):
        assert main(["translate", *arguments]) == 2
        error = capsys.readouterr().err
        assert named in error
        assert error.count("\n") == 1


def test_alignments_say_where_it_looks(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    recurrent = str(_save("seq2seq", tmp_path / "recurrent"))
    assert main(["translate", recurrent, "abc", "--alignments", "--json"]) == 0
    (aligned,) = json.loads(capsys.readouterr().out)["alignments"]
    assert aligned["source"] == ["a", "b", "c"] and aligned["target"][-1] == "<|endoftext|>"
    assert len(aligned["weights"]) == len(aligned["target"])
    assert all(sum(row) == pytest.approx(1.0) for row in aligned["weights"])
    assert main(["translate", recurrent, "abc", "--alignments"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(aligned["target"])
    assert main(["translate", model, "ab", "--alignments"]) == 2
    assert "does not tell its alignments" in capsys.readouterr().err
