import numpy as np
import pytest
import torch

from groundup.errors import UserError
from groundup.model.base import ReadsSpelling
from groundup.model.characters import BEGIN, END
from groundup.model.families.elmo import ELMo, ScalarMix
from groundup.model.registry import build_any
from groundup.objective import OBJECTIVES, Setting
from groundup.recipe import TrainRecipe
from groundup.shape import Shape
from groundup.train.step import TrainStep

from .conftest import MakeShape

SPELLING = [b"", *(b"word%d" % number for number in range(60))]
KEEP = torch.arange(24) < torch.tensor([24, 17, 1])[:, None]
SMALL = {"filters": ((1, 4), (3, 8))}


def _model(shape: Shape) -> ELMo:
    model, random = build_any(shape, seed=1), torch.Generator().manual_seed(2)
    assert isinstance(model, ELMo) and isinstance(model, ReadsSpelling)
    model.read_spelling(SPELLING[: shape.vocabulary_size])
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=random), alpha=0.1)
    return model.eval()


@pytest.fixture
def model(make_shape: MakeShape) -> ELMo:
    return _model(make_shape("elmo", options=SMALL))


def _exchange(name: str) -> str:
    return ".".join({"ahead": "back", "back": "ahead"}.get(part, part) for part in name.split("."))


def _exchanged(model: ELMo) -> ELMo:
    """The same model with both directions' weights exchanged."""
    other = _model(model.shape)
    state = model.state_dict()
    other.load_state_dict({_exchange(name): value for name, value in state.items()})
    return other


@torch.no_grad()
def test_the_backward_model_is_the_forward_one_on_reversed_text(model: ELMo, ids: torch.Tensor) -> None:
    after, before = model(ids)
    mirrored_after, mirrored_before = _exchanged(model)(ids.flip(1))
    torch.testing.assert_close(mirrored_after.flip(1), before)
    torch.testing.assert_close(mirrored_before.flip(1), after)


def test_no_prediction_sees_what_it_is_to_predict(model: ELMo, ids: torch.Tensor) -> None:
    """At i the token i + 1 is predicted from those up to i, and i - 1 from i and those behind, and none else."""
    vectors = model.tokens(ids).detach().requires_grad_()
    model.tokens = lambda ids: vectors  # type: ignore[method-assign]
    after, before = model(ids)
    places = torch.arange(24)
    for place in range(24):
        for logits, seen in ((after, places <= place), (before, places >= place)):
            (grad,) = torch.autograd.grad(logits[:, place].sin().sum(), vectors, retain_graph=True)
            assert torch.equal(grad.abs().amax(-1) > 0, seen.expand(3, -1)), place


@torch.no_grad()
def test_layers_are_lstms_with_what_they_were_given_added(make_shape: MakeShape, ids: torch.Tensor) -> None:
    """By torch's LSTMs with a projection, which have no bounds."""
    model = _model(make_shape("elmo", options=SMALL | {"clip": 1e6}))
    tokens = model.tokens(ids)
    expected = [torch.cat([tokens, tokens], -1)]
    ahead, back = tokens, tokens.flip(1)
    for number in range(2):
        given = []
        for x, lstms in ((ahead, model.ahead), (back, model.back)):
            lstm = torch.nn.LSTM(32, 48, proj_size=32, batch_first=True)
            lstm.load_state_dict(lstms[number].state_dict())
            given.append(lstm(x)[0] + (x if number else 0))
        ahead, back = given
        expected.append(torch.cat([ahead, back.flip(1)], -1))
    found = model.layers(ids)
    assert len(found) == len(expected) == 3
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs)
    after, before = model(ids)
    torch.testing.assert_close(after, model.unembedding(ahead))
    torch.testing.assert_close(before, model.unembedding(back.flip(1)))


@torch.no_grad()
def test_tokens_are_what_they_are_spelt(make_shape: MakeShape, model: ELMo, ids: torch.Tensor) -> None:
    """Token by token, though each that occurs is computed once; tokens of one spelling are one."""
    each = torch.stack([model.characters(model.spelling_VC[row]) for row in ids])
    torch.testing.assert_close(model.tokens(ids), each)
    model.read_spelling([b"same"] * 61)
    assert model.tokens(ids).flatten(0, 1).std(0).max() < 1e-6
    assert model.state_dict()["spelling_VC"][0].tolist()[:6] == [BEGIN, *b"same", END]


@torch.no_grad()
def test_one_token_has_other_features_in_another_context(model: ELMo, ids: torch.Tensor) -> None:
    """But the same vector of its own, in the first layer; one later word reaches those before it too."""
    ids[1] = ids[0]
    ids[1, 12] = (ids[0, 12] + 1) % 61
    layers, features = model.layers(ids), model.text_features(ids)
    same = torch.arange(24) != 12
    torch.testing.assert_close(layers[0][0, same], layers[0][1, same])
    for changed in (*layers[1:], features):
        assert (changed[0] != changed[1]).any(-1).all()


@torch.no_grad()
def test_padding_changes_nothing(model: ELMo, ids: torch.Tensor) -> None:
    features = model.text_features(ids, KEEP)
    for row, keep in enumerate(KEEP):
        torch.testing.assert_close(features[row, keep], model.text_features(ids[row : row + 1, keep])[0])


def test_features_are_an_even_mixture_until_a_task_learns_another(model: ELMo, ids: torch.Tensor) -> None:
    """gamma * sum softmax(w) h, by the formula; a mix of another task has weights of its own."""
    mix = ScalarMix(3)
    with torch.no_grad():
        for name, value in mix.initial_values(torch.Generator()).items():
            getattr(mix, name).copy_(value)
    layers = model.layers(ids)
    torch.testing.assert_close(mix(layers), torch.stack(layers).mean(0))
    with torch.no_grad():
        mix.weights.copy_(torch.tensor([0.3, -1.0, 2.0]))
        mix.gamma.fill_(1.7)
    shares = torch.exp(mix.weights) / torch.exp(mix.weights).sum()
    expected = 1.7 * (shares[0] * layers[0] + shares[1] * layers[1] + shares[2] * layers[2])
    torch.testing.assert_close(mix(layers), expected)
    mix(layers).sin().sum().backward()
    assert mix.weights.grad.abs().min() > 0 and mix.gamma.grad.abs() > 0
    assert model.text_features(ids).shape == (3, 24, model.feature_width)


def test_filters_longer_than_a_token_are_refused(make_shape: MakeShape) -> None:
    with pytest.raises(UserError, match=r"model\.options\.filters=\[\(7, 2\)\]: each is a span of 1 to 6"):
        build_any(make_shape("elmo", options={"filters": [[7, 2]], "max_characters": 6}))


def test_it_learns_from_both_sides(make_shape: MakeShape) -> None:
    """Numbers are random, and the symbols before and behind follow from them: two tokens of three are certain.

    From either side the third costs ln 10, in rows that were never seen too.
    """
    random = np.random.default_rng(0)

    def rows(count: int) -> np.ndarray:
        numbers = random.integers(0, 10, (count, 8, 1))
        return np.concatenate([10 + numbers, numbers, 20 + (numbers + 3) % 10], 2).reshape(count, 24)

    model = _model(make_shape("elmo", vocabulary_size=30, num_layers=1, width=24, options=SMALL))
    objective = OBJECTIVES["bidirectional"](Setting())
    settings = TrainRecipe(optimizer="adamw", weight_decay=0.0)
    step = TrainStep(model, objective, settings, precision="fp32", device="cpu")
    for _ in range(100):
        step(rows(16), lr=0.01)
    with torch.no_grad():
        loss = objective.loss(model.eval(), objective.collate(rows(50)))
    least = np.log(10) * 7 / 23  # of 8 such tokens the first that is read is not predicted
    assert loss.mean.item() == pytest.approx(least, abs=0.1)
