import pytest
import torch
from torch import Tensor

from groundup.model.base import ReadsSpelling, TextModel
from groundup.model.classifier import Classifier, pooled
from groundup.model.registry import build_any
from groundup.shape import FAMILIES

from .conftest import MakeShape

IDS = torch.tensor([[5, 9, 30, 7, 2, 11], [5, 4, 4, -1, -1, -1], [5, 8, 1, 2, 3, -1]])
LENGTHS = (6, 3, 5)


READERS = [name for name, family in FAMILIES.items() if family.examples in ("text", "pairs")]


@pytest.fixture(params=READERS)
def body(request: pytest.FixtureRequest, make_shape: MakeShape) -> TextModel:
    """A model of each family that reads text, with no zeros left in its parameters."""
    model, generator = (
        build_any(make_shape(request.param, num_kv_heads=4), seed=1),
        torch.Generator().manual_seed(2),
    )
    if isinstance(model, ReadsSpelling):
        model.read_spelling([bytes([97 + id % 26, 97 + id // 26]) for id in range(61)])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return model.eval()


@torch.no_grad()
def alone(body: TextModel, row: int) -> Tensor:
    """The features of one text without padding, (T, E)."""
    return body.text_features(IDS[row : row + 1, : LENGTHS[row]])[0]


# Which of a row's tokens are the text's, by what stands around it.
OF_TEXT = {"border": slice(1, None), "enclosed": slice(1, -1), "alone": slice(None)}


@torch.no_grad()
def test_a_text_is_the_mean_of_its_tokens_without_frame_and_padding(body: TextModel) -> None:
    expected = torch.stack([alone(body, row)[OF_TEXT[body.frame]].mean(0) for row in range(3)])
    torch.testing.assert_close(pooled(body, IDS), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_or_its_last_token(body: TextModel) -> None:
    expected = torch.stack([alone(body, row)[OF_TEXT[body.frame]][-1] for row in range(3)])
    torch.testing.assert_close(pooled(body, IDS, "last"), expected, rtol=1e-5, atol=1e-5)


def test_the_head_starts_without_an_opinion_and_is_linear(body: TextModel) -> None:
    classifier = Classifier(body, 3, dropout=0.5).eval()
    assert not classifier(IDS).any()
    with torch.no_grad():
        classifier.head[1].weight.normal_(generator=torch.Generator().manual_seed(1))
        classifier.head[1].bias.fill_(0.5)
        expected = pooled(body, IDS) @ classifier.head[1].weight.T + 0.5
        torch.testing.assert_close(classifier(IDS), expected, rtol=1e-5, atol=1e-5)
        assert not torch.equal(classifier.train()(IDS), classifier(IDS))  # dropout


@pytest.mark.parametrize("body", ["gpt1", "gpt2", "llama", "qwen3"], indirect=True)
def test_gradients_reach_the_tokens_but_not_padding(body: TextModel) -> None:
    """Padding is read as id 0, which stands nowhere else."""
    classifier = Classifier(body, 3, dropout=0.0)
    torch.nn.init.normal_(classifier.head[1].weight, generator=torch.Generator().manual_seed(1))
    classifier(IDS).sum().backward()
    touched = set(torch.nonzero(body.embedding.weight.grad.any(-1)).flatten().tolist())
    assert touched == set(IDS[IDS >= 0].tolist())
