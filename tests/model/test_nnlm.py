from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from groundup.errors import UserError
from groundup.model.families.nnlm import NNLM
from groundup.model.registry import build_any
from groundup.objective import CAUSAL
from groundup.recipe import TrainRecipe
from groundup.shape import Shape
from groundup.train.step import TrainStep

from .conftest import MakeShape

Arrays = dict[str, np.ndarray]


def _model(shape: Shape, dtype: torch.dtype = torch.float64) -> NNLM:
    model, random = build_any(shape, seed=1).to(dtype), torch.Generator().manual_seed(2)
    assert isinstance(model, NNLM)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=random, dtype=dtype), alpha=0.3)
    return model


def _by_hand(weights: Arrays, windows: np.ndarray, words: int) -> tuple[np.ndarray, float, Arrays]:
    """Bengio's formula and its gradients, prediction by prediction: logits (N, V), the mean loss, gradients."""
    table, hidden, bias = weights["embedding.weight"], weights["hidden.weight"], weights["hidden.bias"]
    out, direct = weights["unembedding.weight"], weights.get("direct.weight")
    gradients = {name: np.zeros_like(value) for name, value in weights.items()}
    logits, total, count = [], 0.0, len(windows) * (windows.shape[1] - 1)
    for window in windows.tolist():
        padded = [len(table) - 1] * (words - 1) + window
        for place, target in enumerate(window[1:]):
            seen = padded[place : place + words]
            x = np.concatenate([table[token] for token in seen])
            activation = np.tanh(bias + hidden @ x)
            y = weights["unembedding.bias"] + out @ activation + (0 if direct is None else direct @ x)
            p = np.exp(y - y.max()) / np.exp(y - y.max()).sum()
            total -= np.log(p[target])
            logits.append(y)
            dy = (p - np.eye(len(p))[target]) / count
            da = (out.T @ dy) * (1 - activation**2)
            dx = hidden.T @ da + (0 if direct is None else direct.T @ dy)
            gradients["unembedding.weight"] += np.outer(dy, activation)
            gradients["unembedding.bias"] += dy
            gradients["hidden.weight"] += np.outer(da, x)
            gradients["hidden.bias"] += da
            if direct is not None:
                gradients["direct.weight"] += np.outer(dy, x)
            for token, part in zip(seen, np.split(dx, words), strict=True):
                gradients["embedding.weight"][token] += part
    return np.array(logits), total / count, gradients


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("words", [1, 4])
def test_it_is_the_formula_of_the_paper(words: int, direct: bool, make_shape: MakeShape) -> None:
    """Logits, loss and all gradients by hand in float64."""
    model = _model(make_shape("nnlm", options={"context_words": words, "direct": direct}))
    windows = np.random.default_rng(0).integers(0, 61, (3, 9))
    weights = {name: value.detach().numpy() for name, value in model.named_parameters()}
    logits, loss, gradients = _by_hand(weights, windows, words)
    batch = CAUSAL.collate(windows)
    np.testing.assert_allclose(model(batch.inputs_BT).detach().flatten(0, 1).numpy(), logits, atol=1e-10)
    found = F.cross_entropy(model(batch.inputs_BT).flatten(0, 1), batch.targets_BT.flatten())
    assert found.item() == pytest.approx(loss, abs=1e-10)
    found.backward()
    for name, weight in model.named_parameters():
        np.testing.assert_allclose(weight.grad.numpy(), gradients[name], rtol=1e-8, atol=1e-12, err_msg=name)


def test_a_prediction_sees_exactly_its_context(make_shape: MakeShape, ids: torch.Tensor) -> None:
    """Its gradient is zero at all but the n - 1 tokens up to its own."""
    model = _model(make_shape("nnlm", options={"context_words": 3}))
    embedded: list[torch.Tensor] = []
    model.embedding.register_forward_hook(lambda module, inputs, output: embedded.append(output))
    logits = model(ids)
    for place in range(24):
        (grad,) = torch.autograd.grad(logits[:, place].sin().sum(), embedded[0], retain_graph=True)
        reached = grad.abs().amax(-1) > 0  # the first two columns stand before the beginning
        expected = (torch.arange(26) >= place) & (torch.arange(26) < place + 3)
        assert torch.equal(reached, expected.expand(3, -1)), place


def test_features_are_the_hidden_layer(make_shape: MakeShape, ids: torch.Tensor) -> None:
    model = _model(make_shape("nnlm", options={"direct": False}))
    features = model.text_features(ids)
    assert features.shape == (3, 24, model.feature_width)
    torch.testing.assert_close(model.unembedding(features), model(ids))


def test_unknown_options_name_the_nearest(make_shape: MakeShape) -> None:
    with pytest.raises(UserError, match=r"nnlm has no model\.options\.context_word; did you mean 'context_words'"):
        build_any(make_shape("nnlm", options={"context_word": 3}))
    with pytest.raises(UserError, match="context_words=0"):
        build_any(make_shape("nnlm", options={"context_words": 0}))


def test_documents_are_refused(make_shape: MakeShape, ids: torch.Tensor) -> None:
    with pytest.raises(AssertionError, match="keep documents apart"):
        _model(make_shape("nnlm"))(ids, documents_BT=ids)


def _chain(num_tokens: int, seed: int) -> np.ndarray:
    """Tokens of a chain in which most of what comes next follows from the one before."""
    random = np.random.default_rng(seed)
    table = np.random.default_rng(0).dirichlet(np.full(12, 0.2), 12)
    tokens = [0]
    while len(tokens) < num_tokens:
        tokens.append(int(random.choice(12, p=table[tokens[-1]])))
    return np.array(tokens)


def test_direct_connections_from_one_token_reach_the_bigrams_likelihood(make_shape: MakeShape) -> None:
    """H = U = 0: what is left is a convex softmax regression on the token before, whose optimum is counting."""
    shape = make_shape("nnlm", vocabulary_size=12, width=13, options={"context_words": 1})
    model, tokens = _model(shape), _chain(1000, seed=1)
    counts = np.zeros((12, 12))
    np.add.at(counts, (tokens[:-1], tokens[1:]), 1)
    rates = counts / counts.sum(1, keepdims=True)
    best = -np.log(rates[tokens[:-1], tokens[1:]]).mean()
    with torch.no_grad():
        model.embedding.weight.copy_(torch.eye(13))
        for part in (model.hidden, model.unembedding):
            part.weight.zero_()
    learnt = [model.direct.weight, model.unembedding.bias]
    optimizer = torch.optim.LBFGS(learnt, max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = CAUSAL.loss(model, CAUSAL.collate(tokens[None])).mean.double()
        value.backward()
        return value

    optimizer.step(loss)
    assert best - 1e-6 < loss().item() < best + 1e-3


@pytest.fixture
def trained() -> Callable[[NNLM, np.ndarray], NNLM]:
    def train(model: NNLM, tokens: np.ndarray) -> NNLM:
        settings = TrainRecipe(optimizer="adamw", weight_decay=0.0)
        step = TrainStep(model, CAUSAL, settings, precision="fp32", device="cpu")
        random = np.random.default_rng(0)
        for _ in range(150):
            starts = random.integers(0, len(tokens) - 25, 16)
            step(np.stack([tokens[start : start + 25] for start in starts]), lr=0.01)
        return model.eval()

    return train


def test_it_learns_more_than_how_often_tokens_occur(
    trained: Callable[[NNLM, np.ndarray], NNLM], make_shape: MakeShape
) -> None:
    """Of held-out tokens it knows nearly what their source does; frequencies alone are far from that."""
    tokens, held_out = _chain(6000, seed=1), _chain(3000, seed=2)
    model = trained(_model(make_shape("nnlm", vocabulary_size=12), torch.float32), tokens)
    table = np.random.default_rng(0).dirichlet(np.full(12, 0.2), 12)
    entropy = -np.log(table[held_out[:-1], held_out[1:]]).mean()
    unigram = -np.log(np.bincount(tokens, minlength=12)[held_out[1:]] / len(tokens)).mean()
    with torch.no_grad():
        loss = CAUSAL.loss(model, CAUSAL.collate(held_out[None])).mean.item()
    assert entropy < loss < entropy + 0.2 * (unigram - entropy)
