import numpy as np
import pytest
import torch
from torch import nn

from groundup.errors import UserError
from groundup.model.base import ReadsVectors
from groundup.model.families.cove import CoVe
from groundup.model.registry import build_any
from groundup.shape import Shape

from .conftest import MakeShape

KEEP = torch.arange(24) < torch.tensor([24, 17, 1])[:, None]
TEXTS = ["", " sea", "Sea", "ea", *(f" word{number}" for number in range(57))]
WORDS = {
    word: np.random.default_rng(number).normal(size=12).astype(np.float32)
    for number, word in enumerate(["sea", *(f"word{number}" for number in range(50))])
}


def _model(shape: Shape) -> CoVe:
    model, random = build_any(shape, seed=1), torch.Generator().manual_seed(2)
    assert isinstance(model, CoVe) and isinstance(model, ReadsVectors)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=random), alpha=0.2)
    return model.eval()


@pytest.fixture
def model(make_shape: MakeShape) -> CoVe:
    made = _model(make_shape("cove", options={"vector_width": 12}))
    made.read_vectors(WORDS, TEXTS)
    return made


def test_tokens_that_are_words_get_their_vectors(model: CoVe) -> None:
    found = model.words.vectors_VG.numpy()
    np.testing.assert_array_equal(found[1], WORDS["sea"])
    np.testing.assert_array_equal(found[2], WORDS["sea"])  # in lower case
    np.testing.assert_array_equal(found[4], WORDS["word0"])
    assert not found[[0, 3]].any() and not found[54:].any()


@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_features_are_the_vectors_and_torchs_lstm_of_them(padded: bool, model: CoVe, ids: torch.Tensor) -> None:
    """Two layers, each of which reads what both directions of the one below gave."""
    lstm = nn.LSTM(12, 16, 2, batch_first=True, bidirectional=True)
    weights = {}
    for number, layer in enumerate(model.encoder.layers):
        for direction, suffix in ((layer.ahead, ""), (layer.back, "_reverse")):
            weights |= {
                name.replace("l0", f"l{number}") + suffix: value for name, value in direction.state_dict().items()
            }
    lstm.load_state_dict(weights)
    vectors = model.words(ids)
    if padded:
        packed = nn.utils.rnn.pack_padded_sequence(vectors, KEEP.sum(1), batch_first=True)
        contexts, _ = nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True)
    else:
        contexts, _ = lstm(vectors)
    found = model.text_features(ids, KEEP if padded else None)
    assert found.shape[-1] == model.feature_width == 12 + 32
    kept = KEEP if padded else torch.ones_like(KEEP)
    torch.testing.assert_close(found[kept], torch.cat([vectors, contexts], -1)[kept])


def test_word_vectors_are_never_trained_but_saved(model: CoVe, ids: torch.Tensor) -> None:
    model.train()(ids, None, ids).logsumexp(-1).sum().backward()
    assert not model.words.vectors_VG.requires_grad
    assert all(weight.grad is not None for weight in model.parameters())
    assert "words.vectors_VG" in model.state_dict()


def test_frozen_features_have_no_gradient(model: CoVe, ids: torch.Tensor) -> None:
    assert model.text_features(ids).requires_grad
    assert not model.requires_grad_(False).text_features(ids).requires_grad


@torch.no_grad()
def test_contexts_change_features_and_vectors_stay(model: CoVe, ids: torch.Tensor) -> None:
    other = ids.clone()
    other[:, 12], other[:, 0] = 1, ids[:, 0]
    one, two = model.text_features(ids), model.text_features(other)
    same = torch.arange(24) != 12
    assert torch.equal(one[:, same, :12], two[:, same, :12])
    assert (one[..., 12:] != two[..., 12:]).any(-1)[ids[:, 12] != 1].all()


@torch.no_grad()
def test_steps_give_what_all_at_once_gives(model: CoVe, ids: torch.Tensor) -> None:
    """Its decoder's LSTMs have two states a layer; sources are padded."""
    state = model.start(model.encode(ids, KEEP))
    expected = model(ids, KEEP, ids)
    for place in range(24):
        logits, state = model.step(state, ids[:, place])
        torch.testing.assert_close(logits, expected[:, place])


def test_vectors_that_do_not_fit_are_refused(make_shape: MakeShape, model: CoVe) -> None:
    with pytest.raises(UserError, match=r"have 12 dimensions.*set model\.options\.vector_width=12"):
        _model(make_shape("cove", options={"vector_width": 10})).read_vectors(WORDS, TEXTS)
    with pytest.raises(UserError, match="none of 61 tokens is one of the 51 words"):
        model.read_vectors(WORDS, ["?"] * 61)
