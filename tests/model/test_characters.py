import pytest
import torch
import torch.nn.functional as F
from torch import nn

from groundup.model.characters import BEGIN, END, PADDING, CharacterCNN, Highway, spell
from groundup.model.initialise import initialise

FILTERS = ((1, 3), (2, 4), (5, 6))


def _cnn() -> CharacterCNN:
    cnn = CharacterCNN(FILTERS, character_width=7, num_highways=2, width=5).double()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in cnn.parameters():
            weight.copy_(torch.randn(weight.shape, generator=random, dtype=torch.float64) * 0.3)
    return cnn


def test_tokens_are_spelt_between_begin_and_end() -> None:
    spelling = spell([b"", b"ab", "é".encode(), b"abcdefgh"], 6)
    assert spelling.dtype == torch.int64
    assert spelling.tolist() == [
        [BEGIN, END, PADDING, PADDING, PADDING, PADDING],
        [BEGIN, 97, 98, END, PADDING, PADDING],
        [BEGIN, 0xC3, 0xA9, END, PADDING, PADDING],
        [BEGIN, 97, 98, 99, 100, END],
    ]


def test_it_is_a_convolution_the_greatest_and_highways() -> None:
    """By torch's convolution and pooling, and the highway's formula; so are the gradients."""
    cnn, words = _cnn(), spell([b"a", b"word", b" another", b""], 12)
    x = F.embedding(words, cnn.embedding.weight).mT
    found = []
    for (span, count), filters in zip(FILTERS, cnn.filters, strict=True):
        made = F.conv1d(x, filters.weight.view(count, 7, span), filters.bias)
        found.append(F.relu(F.max_pool1d(made, made.shape[-1]).squeeze(-1)))
    y = torch.cat(found, 1)
    for highway in cnn.highways:
        gate = torch.sigmoid(F.linear(y, highway.gate.weight, highway.gate_bias))
        y = gate * F.relu(F.linear(y, highway.transform.weight, highway.transform.bias)) + (1 - gate) * y
    expected = F.linear(y, cnn.projection.weight, cnn.projection.bias)
    torch.testing.assert_close(cnn(words), expected, rtol=1e-12, atol=1e-12)
    weights = list(cnn.parameters())
    for mine, theirs in zip(
        torch.autograd.grad(cnn(words).sin().sum(), weights),
        torch.autograd.grad(expected.sin().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_a_highway_starts_nearly_open() -> None:
    highway = nn.Sequential(Highway(400))
    initialise(highway, seed=0)
    assert set(highway[0].gate_bias.tolist()) == {-2.0}
    x = torch.randn(500, 400, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        passed = (highway(x) * x).mean() / x.square().mean()
    gates = torch.randn(10**6, generator=torch.Generator().manual_seed(1)).sub(2).sigmoid()
    assert passed.item() == pytest.approx(1 - gates.mean().item(), abs=0.02)
