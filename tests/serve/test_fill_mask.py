"""`fill-mask` against transformers' pipeline from the same folder, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch
import transformers

from groundup.cli.main import main
from groundup.errors import UserError
from groundup.model import folder as model_folder
from groundup.model.base import Model
from groundup.model.registry import build_any
from groundup.serve.fill_mask import Filling, fill_mask
from groundup.shape import Shape, family
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.library import LibraryTokenizer
from groundup.tokenizer.load import load_tokenizer

TEXTS = ["the cat sat on the mat and the dog sat on the rug", "a cat and a dog and a mat"] * 3


@pytest.fixture(scope="module")
def own_tokenizer() -> Tokenizer:
    special = ("<|endoftext|>", *family("bert").special_tokens)
    return Tokenizer.train(TEXTS, vocabulary_size=290, special_tokens=special)


@pytest.fixture(scope="module")
def wordpiece() -> LibraryTokenizer:
    return LibraryTokenizer.train(TEXTS, 60, "wordpiece", lowercase=True)


def _model(name: str, vocabulary_size: int) -> Model:
    """One that has an opinion."""
    shape = Shape(
        family=name, num_layers=2, width=32, num_heads=4, num_kv_heads=4, head_width=8, feedforward_width=48,
        vocabulary_size=vocabulary_size, context=16, norm_epsilon=1e-12,
    )  # fmt: skip
    model, generator = build_any(shape, seed=1), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return model.eval()


@pytest.fixture
def own_folder(own_tokenizer: Tokenizer, tmp_path: Path) -> Path:
    model_folder.save(tmp_path / "own", _model("bert", own_tokenizer.vocabulary_size), own_tokenizer, "card", {})
    return tmp_path / "own"


@pytest.fixture
def wordpiece_folder(wordpiece: LibraryTokenizer, tmp_path: Path) -> Path:
    """With the tokenizer of the real BERT: `[MASK]`, `[CLS]`, `[SEP]`."""
    folder = tmp_path / "wordpiece"
    wordpiece.save(folder)
    model_folder.save_weights(folder, _model("bert", wordpiece.vocabulary_size), {"<|pad|>": wordpiece.pad_token})
    return folder


@pytest.mark.parametrize("text", ["the [MASK] sat", "The [MASK] sat on [MASK] and a dog", "[MASK]"])
def test_fillings_are_those_of_transformers(wordpiece_folder: Path, text: str) -> None:
    pipeline = transformers.pipeline("fill-mask", str(wordpiece_folder), top_k=7)
    expected = pipeline(text)
    expected = [expected] if isinstance(expected[0], dict) else expected
    model, tokenizer = model_folder.load_weights(wordpiece_folder), load_tokenizer(wordpiece_folder)
    assert isinstance(tokenizer, LibraryTokenizer)
    gaps = fill_mask(model, tokenizer, text, top=7)
    assert len(gaps) == len(expected) == text.count("[MASK]")
    for fillings, answers in zip(gaps, expected, strict=True):
        assert [tokenizer.special_tokens.get(each.token, each.token) for each in fillings] == [
            tokenizer.special_tokens.get(answer["token_str"], answer["token_str"]) for answer in answers
        ]
        for filling, answer in zip(fillings, answers, strict=True):
            assert abs(filling.probability - answer["score"]) < 1e-5
    assert fill_mask(model, tokenizer, text.replace("[MASK]", "<|mask|>"), top=7) == gaps


def test_probabilities_are_the_models(own_tokenizer: Tokenizer) -> None:
    """Behind `<|cls|>`, before `<|sep|>`; a word's token has its space, so none is left before the gap."""
    model = _model("bert", own_tokenizer.vocabulary_size)
    special = own_tokenizer.special_tokens
    ids = [
        special["<|cls|>"],
        *own_tokenizer.encode_ordinary("the cat sat on the"),
        special["<|mask|>"],
        *own_tokenizer.encode_ordinary(" and"),
        special["<|sep|>"],
    ]
    with torch.no_grad():
        said = model(torch.tensor([ids]))[0, ids.index(special["<|mask|>"])].softmax(-1)
    size = own_tokenizer.vocabulary_size
    (fillings,) = fill_mask(model, own_tokenizer, "the cat sat on the <|mask|> and", top=1000)
    assert len(fillings) == size
    assert abs(sum(filling.probability for filling in fillings) - 1) < 1e-5
    values, order = said.sort(descending=True)
    assert [filling.token for filling in fillings[:5]] == [own_tokenizer.decode([id]) for id in order[:5].tolist()]
    torch.testing.assert_close(torch.tensor([filling.probability for filling in fillings]), values)
    assert fill_mask(model, own_tokenizer, "the cat sat on the [MASK] and", top=1) == [fillings[:1]]
    assert isinstance(fillings[0], Filling)


def test_what_cannot_be_filled_is_told(own_tokenizer: Tokenizer) -> None:
    size = own_tokenizer.vocabulary_size
    model = _model("bert", size)
    with pytest.raises(UserError, match="the family pert does not fill gaps"):
        fill_mask(_model("pert", size), own_tokenizer, "a <|mask|>")
    with pytest.raises(UserError, match=r"no gap; write <\|mask\|> where"):
        fill_mask(model, own_tokenizer, "the cat sat")
    with pytest.raises(UserError, match="has 15 tokens, more than the 14 that the model reads"):
        fill_mask(model, own_tokenizer, "<|mask|>" * 15)
    assert len(fill_mask(model, own_tokenizer, "<|mask|>" * 14)) == 14
    plain = Tokenizer.train(["a"], vocabulary_size=257)
    with pytest.raises(UserError, match="the tokenizer has neither"):
        fill_mask(model, plain, "a <|mask|>")


def test_names_of_other_special_tokens_are_text(own_tokenizer: Tokenizer) -> None:
    """What ends a document in a text is not what ends the row."""
    model = _model("bert", own_tokenizer.vocabulary_size)
    with pytest.raises(UserError, match="more than the 14"):
        fill_mask(model, own_tokenizer, "<|sep|><|endoftext|><|mask|>")


def test_the_verb_prints_fillings(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "the <|mask|> sat on <|mask|>"
    assert main(["fill-mask", str(own_folder), text, "--top", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("gap")] == ["gap 1", "gap 2"]
    assert len(lines) == 2 + 2 * 3
    assert main(["fill-mask", str(own_folder), text, "--top", "3", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["text"] == text
    assert [len(gap) for gap in answer["gaps"]] == [3, 3]
    assert f"{answer['gaps'][0][0]['probability']:7.4f}  {answer['gaps'][0][0]['token']!r}" == lines[1]


def test_the_verb_says_in_one_line_what_is_wrong(
    own_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, text in ((own_folder, "no gap"), (tmp_path / "nothing", "a <|mask|>")):
        assert main(["fill-mask", str(folder), text]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
