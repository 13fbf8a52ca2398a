import pytest
import torch
from torch import Tensor

from groundup.model.classifier import Classifier, pooled
from groundup.model.registry import build_any

from .conftest import MakeShape

IDS = torch.tensor([[5, 9, 30, 7, 2, 11], [5, 4, 4, -1, -1, -1], [5, 8, 1, 2, 3, -1]])
LENGTHS = (6, 3, 5)


@pytest.fixture(params=["gpt2", "qwen3", "bert"])
def body(request: pytest.FixtureRequest, make_shape: MakeShape) -> torch.nn.Module:
    model, generator = (
        build_any(make_shape(request.param, num_kv_heads=4), seed=1),
        torch.Generator().manual_seed(2),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return model.eval()


@torch.no_grad()
def alone(body: torch.nn.Module, row: int) -> Tensor:
    """The features of one text without padding, (T, E)."""
    return body.text_features(IDS[row : row + 1, : LENGTHS[row]])[0]


@torch.no_grad()
def test_a_text_is_the_mean_of_its_tokens_without_border_and_padding(body: torch.nn.Module) -> None:
    expected = torch.stack([alone(body, row)[1:].mean(0) for row in range(3)])
    torch.testing.assert_close(pooled(body, IDS), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_or_its_last_token(body: torch.nn.Module) -> None:
    expected = torch.stack([alone(body, row)[-1] for row in range(3)])
    torch.testing.assert_close(pooled(body, IDS, "last"), expected, rtol=1e-5, atol=1e-5)


def test_the_head_starts_without_an_opinion_and_is_linear(body: torch.nn.Module) -> None:
    classifier = Classifier(body, 3, dropout=0.5).eval()
    assert not classifier(IDS).any()
    with torch.no_grad():
        classifier.head[1].weight.normal_(generator=torch.Generator().manual_seed(1))
        classifier.head[1].bias.fill_(0.5)
        expected = pooled(body, IDS) @ classifier.head[1].weight.T + 0.5
        torch.testing.assert_close(classifier(IDS), expected, rtol=1e-5, atol=1e-5)
        assert not torch.equal(classifier.train()(IDS), classifier(IDS))  # dropout


def test_gradients_reach_the_body_but_not_from_padding(body: torch.nn.Module) -> None:
    classifier = Classifier(body, 3, dropout=0.0)
    torch.nn.init.normal_(classifier.head[1].weight, generator=torch.Generator().manual_seed(1))
    classifier(IDS).sum().backward()
    touched = set(torch.nonzero(body.embedding.weight.grad.any(-1)).flatten().tolist())
    of_texts = set(IDS[IDS >= 0].tolist())
    assert of_texts <= touched
    if body.shape.family != "bert":  # whose padding is masked, so that its own gradient is what is asked below
        assert touched == of_texts
    assert not body.embedding.weight.grad[0].any()  # padding is read as id 0
