"""The encoder of BERT and PERT: what sees what, and what must not."""

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch

from groundup.errors import UserError
from groundup.model.base import Model
from groundup.model.encoder import Encoder
from groundup.model.families.bert import Bert
from groundup.model.families.pert import Pert
from groundup.model.registry import build_any
from groundup.shape import Shape

CONTEXT, VOCABULARY = 24, 61
KEPT = torch.tensor([24, 15, 1])  # tokens of each row that are no padding
KEEP = torch.arange(CONTEXT) < KEPT[:, None]


def _shape(family: str, **changes: object) -> Shape:
    numbers = {
        "num_layers": 2, "width": 32, "num_heads": 4, "num_kv_heads": 4, "head_width": 8, "feedforward_width": 48,
        "vocabulary_size": VOCABULARY, "context": CONTEXT, "norm_epsilon": 1e-12,
    }  # fmt: skip
    return Shape(family=family, **(numbers | changes))


def _model(family: str, **changes: object) -> Encoder:
    """With no zeros and ones left in its parameters, in evaluation mode."""
    model, generator = build_any(_shape(family, **changes), seed=1), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    assert isinstance(model, Encoder)
    return model.eval()


def _ids(seed: int = 3) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (3, CONTEXT), generator=torch.Generator().manual_seed(seed))


def _watched(model: Encoder) -> list[torch.Tensor]:
    """What the embedding gives, at each call."""
    seen: list[torch.Tensor] = []
    model.embedding.register_forward_hook(lambda module, inputs, output: seen.append(output))
    return seen


def _autocast(dtype: torch.dtype) -> AbstractContextManager[object]:
    return nullcontext() if dtype == torch.float32 else torch.autocast("cpu", dtype=dtype)


@pytest.mark.parametrize("family", ["bert", "pert"])
def test_every_token_sees_every_other(family: str) -> None:
    model = _model(family)
    seen = _watched(model)
    features = model.text_features(_ids()[:1])
    for position in range(CONTEXT):
        (gradient,) = torch.autograd.grad(features[0, position].square().sum(), seen[0], retain_graph=True)
        assert (gradient[0].abs().amax(1) > 0).all(), position


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])  # the fused kernel, and the formula as written
@pytest.mark.parametrize("family", ["bert", "pert"])
def test_no_gradient_reaches_padding(family: str, dtype: torch.dtype) -> None:
    """Of whatever is said about the tokens that are kept; exactly zero."""
    model = _model(family)
    seen = _watched(model)
    with _autocast(dtype):
        logits = model(_ids(), keep_BT=KEEP).float()[KEEP]
    said = logits[logits.isfinite()].square().sum()
    (gradient,) = torch.autograd.grad(said, seen[0])
    assert (gradient.abs().amax(2) > 0)[KEEP].all()
    assert not gradient[~KEEP].any()


@torch.no_grad()
@pytest.mark.parametrize("family", ["bert", "pert"])
def test_padding_changes_nothing(family: str) -> None:
    """Neither which ids stand there nor that they do: each row is as if it were alone and short."""
    model, ids = _model(family), _ids()
    other = torch.where(KEEP, ids, _ids(seed=4))
    logits, features = model(ids, keep_BT=KEEP), model.text_features(ids, KEEP)
    assert torch.equal(model(other, keep_BT=KEEP)[KEEP], logits[KEEP])
    for row, kept in enumerate(KEPT.tolist()):
        alone = ids[row : row + 1, :kept]
        torch.testing.assert_close(features[row, :kept], model.text_features(alone)[0], rtol=1e-5, atol=1e-5)
        last = kept if family == "pert" else VOCABULARY
        torch.testing.assert_close(logits[row, :kept, :last], model(alone)[0], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_nothing_is_sought_in_padding() -> None:
    probabilities = _model("pert")(_ids(), keep_BT=KEEP).softmax(-1)
    assert not probabilities.masked_select(~KEEP[:, None, :].expand_as(probabilities)).any()
    assert probabilities.shape == (3, CONTEXT, CONTEXT)


@torch.no_grad()
def test_order_and_segment_matter() -> None:
    model, ids = _model("bert"), _ids()
    features = model.features(ids)
    assert torch.equal(features, model.features(ids, torch.zeros_like(ids)))
    assert (features - model.features(ids, torch.ones_like(ids))).abs().max() > 0.1
    assert (features - model.features(ids.flip(1)).flip(1)).abs().max() > 0.1


@torch.no_grad()
def test_a_head_begins_without_a_preference() -> None:
    """So that the first loss is that of guessing."""
    bert, pert = (build_any(_shape(family, width=128, head_width=32)).eval() for family in ("bert", "pert"))
    for model, choices in ((bert, VOCABULARY), (pert, CONTEXT)):
        said = model(_ids()).log_softmax(-1)
        assert said.shape[-1] == choices
        entropy = -(said.exp() * said).sum(-1)
        assert (entropy > 0.7 * torch.tensor(float(choices)).log()).all()


@torch.no_grad()
def test_the_position_head_is_its_formula() -> None:
    """softmax(norm(GELU(W h_i)) H^T / sqrt(D) + b), in float64 and by its parts."""
    model = _model("pert").double()
    assert isinstance(model, Pert)
    features = model.features(_ids())
    dense, norm = model.head.transform.dense, model.head.transform.norm
    hidden = features @ dense.weight.T + dense.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    centred = hidden - hidden.mean(-1, keepdim=True)
    asked = centred / (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt() * norm.weight + norm.bias
    expected = torch.einsum("bid,bjd->bij", asked, features) / 32**0.5 + model.head.bias
    torch.testing.assert_close(model(_ids()), expected, rtol=1e-6, atol=1e-6)  # norms are taken in float32


def _idle(model: Model, total: torch.Tensor) -> set[str]:
    total.backward()
    return {name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()}


def test_every_parameter_gets_a_gradient() -> None:
    """Those for next sentences too, where they are."""
    bert, pert = _model("bert"), _model("pert")
    assert _idle(bert, bert(_ids()).square().sum()) == set()
    assert _idle(pert, pert(_ids()).square().sum()) == set()
    both = _model("bert", options={"next_sentence": True})
    assert isinstance(both, Bert)
    features = both.features(_ids())
    said = both.token_logits(features).square().sum() + both.next_sentence_logits(features).square().sum()
    assert _idle(both, said) == set()


def test_pooled_features_need_a_pooler() -> None:
    model = _model("bert")
    assert isinstance(model, Bert)
    with pytest.raises(UserError, match=r"no pooler; train one with --set model\.options\.next_sentence=true"):
        model.pooled(model.features(_ids()))


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("bert", {"num_kv_heads": 2}, "bert needs num_kv_heads = num_heads"),
        ("pert", {"head_width": 16}, r"num_heads \* head_width = width"),
        ("bert", {"tied": False}, "leave model.tied unset"),
        ("bert", {"options": {"next_sentense": True}}, "did you mean 'next_sentence'"),
        ("bert", {"options": {"whole_word": "often"}}, "model.options.whole_word='often'"),
        ("pert", {"options": {"next_sentence": True}}, "pert has no model.options.next_sentence"),
    ],
)
def test_what_cannot_be_built_is_told(family: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_any(_shape(family, **changes))
