from collections.abc import Callable

import pytest
import torch

from groundup.errors import UserError
from groundup.model.registry import build_any
from groundup.model.translator import Translator
from groundup.serve.beam import Search, beam_search
from groundup.serve.translate import translate, translator
from groundup.shape import FAMILIES, Shape
from groundup.tokenizer import Tokenizer

SPECIAL = ["<|endoftext|>", *FAMILIES["transformer"].special_tokens]
MakeRandom = Callable[[str], torch.nn.Module]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Bytes, then the special tokens."""
    return Tokenizer.train(["a"], vocabulary_size=256 + len(SPECIAL), special_tokens=SPECIAL)


@pytest.fixture(scope="module")
def model() -> Translator:
    shape = Shape(
        family="transformer",
        num_layers=1,
        width=16,
        num_heads=2,
        num_kv_heads=2,
        head_width=8,
        feedforward_width=24,
        vocabulary_size=259,
        context=30,
    )
    model, generator = build_any(shape, seed=1), torch.Generator().manual_seed(2)
    assert isinstance(model, Translator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return model.eval()


def test_texts_come_back_in_their_order(model: Translator, tokenizer: Tokenizer) -> None:
    """40 texts of all lengths, more than are read at once; each as if it were alone."""
    texts = [("abc" * number)[: 1 + 7 * number % 29] for number in range(1, 41)]
    found = translate(model, tokenizer, texts, beams=2)
    assert len(set(found)) > 5
    for text, translation in zip(texts[::6], found[::6], strict=True):
        ids = torch.tensor([tokenizer.encode_ordinary(text)])
        best = beam_search(model, ids, None, Search(257, 256, 30, beams=2))[0][0]
        assert translation == tokenizer.decode(best.ids).strip()


def test_nothing_becomes_nothing(model: Translator, tokenizer: Tokenizer) -> None:
    found = translate(model, tokenizer, ["", "a", "  "])
    assert (found[0], found[2]) == ("", "")
    assert found[1] == translate(model, tokenizer, ["a"])[0]
    assert translate(model, tokenizer, []) == []


def test_the_model_is_left_as_it_was(model: Translator, tokenizer: Tokenizer) -> None:
    for training in (True, False):
        translate(model.train(training), tokenizer, ["a"])
        assert model.training == training


def test_a_text_longer_than_the_context_is_refused(model: Translator, tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="has 31 tokens, more than the model's context of 30"):
        translate(model, tokenizer, ["a" * 31])


def test_other_models_do_not_translate(make_random: MakeRandom, tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="of the family gpt2 does not translate"):
        translator(make_random("gpt2"), tokenizer)


def test_a_translator_without_a_separator_does_not_translate(model: Translator) -> None:
    with pytest.raises(UserError, match="does not translate"):
        translator(model, Tokenizer.train(["a"], vocabulary_size=257))
