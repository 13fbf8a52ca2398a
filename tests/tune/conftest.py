"""A tiny decoder and texts that a glance at their words tells apart."""

import random
from collections.abc import Callable, Iterator

import pytest
import torch

from groundup.data.labelled import Frame, LabelledRows, LabelledTexts, encode_texts
from groundup.model.base import TextModel
from groundup.model.registry import build_any
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer

SEA, KITCHEN = "ship wave sail captain harbour storm".split(), "oven bread flour butter spoon sugar".split()
SMALL = "the and of a in on".split()
MakeBody = Callable[..., TextModel]
MakeTexts = Callable[..., LabelledTexts]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_texts() -> MakeTexts:
    """Texts of the sea and of the kitchen; a share of the labels may be wrong."""

    def make(count: int, seed: int, wrong: float = 0.0) -> LabelledTexts:
        generator = random.Random(seed)
        texts, labels = [], []
        for _ in range(count):
            label = generator.choice(["kitchen", "sea"])
            words = generator.choices([*(SEA if label == "sea" else KITCHEN), *SMALL], k=generator.randint(4, 9))
            texts.append(" ".join([*words, generator.choice(SEA if label == "sea" else KITCHEN)]))
            labels.append(generator.choice(["kitchen", "sea"]) if generator.random() < wrong else label)
        return LabelledTexts(tuple(texts), tuple(labels))

    return make


@pytest.fixture(scope="session")
def tokenizer(make_texts: MakeTexts) -> Tokenizer:
    special_tokens = ["<|endoftext|>", "<|cls|>", "<|sep|>"]
    return Tokenizer.train(make_texts(200, 0).texts, vocabulary_size=342, special_tokens=special_tokens)


@pytest.fixture(scope="session")
def make_body(tokenizer: Tokenizer) -> MakeBody:
    """A model of two layers with no zeros left in its parameters, so that its features depend on all of them."""

    def make(family: str = "gpt2", width: int = 16) -> TextModel:
        shape = Shape(
            family=family,
            num_layers=2,
            width=width,
            num_heads=2,
            num_kv_heads=2,
            head_width=width // 2,
            feedforward_width=32,
            vocabulary_size=tokenizer.vocabulary_size,
            context=24,
        )
        body, generator = build_any(shape, seed=1), torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in body.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
        assert isinstance(body, TextModel)
        return body.eval()

    return make


@pytest.fixture(scope="session")
def make_rows(make_texts: MakeTexts, tokenizer: Tokenizer) -> Callable[..., LabelledRows]:
    """The same texts as rows [label, ids...]."""

    def make(count: int, seed: int, wrong: float = 0.0, frame: Frame = "border") -> LabelledRows:
        texts = make_texts(count, seed, wrong)
        ids_NT = encode_texts(texts.texts, tokenizer, 24, frame)
        return LabelledRows(texts.numbers(["kitchen", "sea"]), ids_NT, seed)

    return make
