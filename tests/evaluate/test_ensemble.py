import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from groundup.evaluate.bits import evaluate_tokens
from groundup.evaluate.ensemble import evaluate_ensemble, mean_probability
from groundup.model.decoder import Decoder
from groundup.tokenizer import Tokenizer

MakeModel = Callable[[str, int], Decoder]


@given(arrays.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=st.floats(0, 80)))
def test_it_is_the_mean_of_probabilities(nats_MN: np.ndarray) -> None:
    """And by Jensen's inequality no dearer than its members on average, hence than the worst of them."""
    found = mean_probability(torch.from_numpy(nats_MN)).numpy()
    np.testing.assert_allclose(np.exp(-found), np.exp(-nats_MN).mean(0), rtol=1e-12)
    assert (found <= nats_MN.mean(0) + 1e-12).all()
    assert (found >= nats_MN.min(0) - 1e-12).all()


def test_a_token_of_no_probability_is_not_lost() -> None:
    """Where every member's probability is too small for a float64, the logarithm still is not."""
    nats_MN = torch.tensor([[1000.0], [1001.0]])
    assert mean_probability(nats_MN).item() == pytest.approx(1000 - math.log((1 + math.exp(-1)) / 2))


@pytest.mark.parametrize("within_documents", [False, True])
def test_figures_are_those_of_averaged_softmaxes(
    make_model: MakeModel, tokenizer: Tokenizer, within_documents: bool
) -> None:
    """Of two families in windows of one length."""
    models = [make_model("qwen3", 8), make_model("llama", 8)]
    tokens = np.random.default_rng(0).integers(0, tokenizer.vocabulary_size, 41).astype(np.int64)
    tokens[3::7] = tokenizer.end_of_text
    border = tokenizer.end_of_text if within_documents else None
    settings = {"device": "cpu", "precision": "fp32", "end_of_text": border}
    found = evaluate_ensemble(models, tokens, tokenizer.byte_lengths, **settings)
    alone = [evaluate_tokens(model, tokens, tokenizer.byte_lengths, **settings) for model in models]
    assert found.members == alone
    if not within_documents:
        inputs, targets = (torch.from_numpy(part).view(-1, 8) for part in (tokens[:-1], tokens[1:]))
        with torch.no_grad():
            mean_BTV = sum(model.eval()(inputs).double().softmax(-1) for model in models) / 2
        counted = torch.from_numpy(tokenizer.byte_lengths.copy())[targets] > 0
        nats = -mean_BTV.gather(-1, targets[..., None])[..., 0].log()[counted]
        assert found.together.loss == pytest.approx(float(nats.mean()), rel=1e-6)
    assert found.together.loss <= sum(member.loss for member in alone) / 2
    assert (found.together.tokens, found.together.bytes) == (alone[0].tokens, alone[0].bytes)


def test_members_may_see_differently_far(make_model: MakeModel, tokenizer: Tokenizer) -> None:
    """Each token's nats are those of the member by itself; equal members are as one."""
    tokens = np.random.default_rng(1).integers(0, 256, 30).astype(np.int64)
    near, far = make_model("llama", 4), make_model("llama", 16)
    settings = {"device": "cpu", "precision": "fp32"}
    found = evaluate_ensemble([near, far], tokens, tokenizer.byte_lengths, **settings)
    assert found.members[0].loss != pytest.approx(found.members[1].loss, rel=1e-6)
    assert found.together.tokens == 29
    twice = evaluate_ensemble([far, far], tokens, tokenizer.byte_lengths, **settings)
    assert twice.together.loss == pytest.approx(found.members[1].loss, rel=1e-12)
