import copy
import math

import pytest
import torch
from torch import nn

from groundup.errors import UserError
from groundup.model.encoder_decoder import EncoderDecoder
from groundup.model.registry import build_any
from groundup.model.translator import Translator
from groundup.parallel.recompute import Recompute, recompute
from groundup.shape import Shape

KINDS = ["transformer", "transformer-pre", "t5", "t5-gated"]
_OPTIONS = {
    "transformer": {},
    "transformer-pre": {"pre_norm": True, "decoder_layers": 3},
    "t5": {"num_buckets": 8, "max_distance": 10},
    "t5-gated": {"gated": True, "decoder_layers": 1},
}


def _shape(kind: str, **changes: object) -> Shape:
    numbers: dict[str, object] = {
        "num_layers": 2,
        "width": 24,
        "num_heads": 3,
        "num_kv_heads": 3,
        "head_width": 8,
        "feedforward_width": 40,
        "vocabulary_size": 31,
        "context": 16,
        "tied": kind != "t5-gated",
        "options": _OPTIONS[kind],
    }
    return Shape(family=kind.partition("-")[0], **numbers | changes)


def _random(kind: str, **changes: object) -> EncoderDecoder:
    """A model with no zeros and ones left in its parameters."""
    model, generator = build_any(_shape(kind, **changes), seed=1), torch.Generator().manual_seed(2)
    assert isinstance(model, EncoderDecoder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model.eval()


def _ids(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randint(0, 31, shape, generator=torch.Generator().manual_seed(seed))


SOURCE, TARGET = _ids(3, 11), _ids(3, 7, seed=4)
KEEP = torch.arange(11) < torch.tensor([[11], [6], [1]])


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> EncoderDecoder:
    return _random(request.param)


def _torch_transformer(ours: EncoderDecoder, pre_norm: bool) -> nn.Transformer:
    """PyTorch's own, with the same weights; like ours it has no norm behind a post-norm half."""
    numbers = {"d_model": 24, "nhead": 3, "dim_feedforward": 40, "dropout": 0.0, "batch_first": True}
    theirs = nn.Transformer(
        num_encoder_layers=len(ours.encoder), num_decoder_layers=len(ours.decoder), norm_first=pre_norm, **numbers
    )
    if not pre_norm:
        theirs.encoder.norm = theirs.decoder.norm = None
    state = {}
    for half, blocks in (("encoder", ours.encoder), ("decoder", ours.decoder)):
        for number, block in enumerate(blocks):
            parts = {
                "self_attn": block.attention,
                "linear1": block.feedforward.up,
                "linear2": block.feedforward.down,
            }
            norms = [block.attention_norm, block.feedforward_norm]
            if half == "decoder":
                parts["multihead_attn"] = block.cross_attention
                norms.insert(1, block.cross_attention_norm)
            parts |= {f"norm{place}": norm for place, norm in enumerate(norms, start=1)}
            for name, part in parts.items():
                state |= {
                    f"{half}.layers.{number}.{name}.{leaf}": value for leaf, value in _as_torch(part).items()
                }
        norm = getattr(ours, f"{half}_norm")
        state |= {f"{half}.norm.{leaf}": value for leaf, value in norm.state_dict().items()}
    theirs.load_state_dict(state)
    return theirs


def _as_torch(part: nn.Module) -> dict[str, torch.Tensor]:
    if not hasattr(part, "query"):
        return part.state_dict()
    projections = [part.query, part.key, part.value]
    return {
        "in_proj_weight": torch.cat([linear.weight for linear in projections]),
        "in_proj_bias": torch.cat([linear.bias for linear in projections]),
        "out_proj.weight": part.output.weight,
        "out_proj.bias": part.output.bias,
    }


def _sinusoid(length: int, width: int) -> torch.Tensor:
    rows = [
        [(math.cos if i % 2 else math.sin)(t / 10_000 ** ((i - i % 2) / width)) for i in range(width)]
        for t in range(length)
    ]
    return torch.tensor(rows)


@pytest.mark.parametrize("kind", ["transformer", "transformer-pre"])
def test_logits_and_gradients_are_those_of_torch(kind: str) -> None:
    """With padding; the gradients of the embedding, and of every weight that PyTorch's own has."""
    ours = _random(kind, norm_epsilon=1e-5)
    theirs = _torch_transformer(ours, pre_norm=kind == "transformer-pre").eval()
    embedding = ours.embedding.weight.detach().clone().requires_grad_()

    def embed(ids: torch.Tensor) -> torch.Tensor:
        return embedding[ids] * math.sqrt(24) + _sinusoid(ids.shape[1], 24)

    hidden = theirs(
        embed(SOURCE),
        embed(TARGET),
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(7),
        src_key_padding_mask=~KEEP,
        memory_key_padding_mask=~KEEP,
    )
    expected, found = hidden @ embedding.T, ours(SOURCE, KEEP, TARGET)
    assert expected.std() > 0.3
    assert float((found - expected).detach().abs().max()) < 1e-5
    for logits in (expected, found):
        nn.functional.cross_entropy(logits.flatten(0, 1), TARGET.flatten()).backward()
    pairs = [(ours.embedding.weight.grad, embedding.grad)]
    gradients = copy.deepcopy(ours)
    for name, parameter in ours.named_parameters():
        gradients.get_parameter(name).data = parameter.grad
    named = dict(_torch_transformer(gradients, kind == "transformer-pre").named_parameters())
    pairs += [(named[name].data, parameter.grad) for name, parameter in theirs.named_parameters()]
    assert len(pairs) > 50
    # A key's bias shifts all scores of a query alike: its true gradient is nothing, and both are rounding.
    for mine, other in pairs:
        assert (mine - other).norm() <= 1e-4 * other.norm() + 1e-8


def test_one_token_at_a_time_gives_the_same_logits(model: EncoderDecoder) -> None:
    """Also when targets of one source change places on the way, and with several targets a source."""
    with torch.no_grad():
        state, beams = model.start(model.encode(SOURCE, KEEP), 2), 2
        targets = _ids(6, 8, seed=9)
        order = torch.tensor([1, 1, 2, 3, 5, 4])
        written = torch.empty(6, 0, dtype=torch.long)
        for step in range(8):
            written = torch.cat([written, targets[:, step : step + 1]], 1)
            logits, state = model.step(state, written[:, -1])
            whole = model.logits(SOURCE.repeat_interleave(beams, 0), KEEP.repeat_interleave(beams, 0), written)
            torch.testing.assert_close(logits, whole[:, -1], atol=1e-5, rtol=1e-5)
            if step in {2, 5}:
                state, written = model.reorder(state, order), written[order]


def test_what_a_source_is_made_into_is_computed_once(model: EncoderDecoder) -> None:
    """Keys of the memory: one product in the first step, of nothing afterwards."""
    rows: list[int] = []
    model.decoder[0].cross_attention.key.register_forward_hook(
        lambda _m, inputs, _o: rows.append(inputs[0].shape[1])
    )
    with torch.no_grad():
        state = model.start(model.encode(SOURCE, KEEP))
        for step in range(3):
            _, state = model.step(state, TARGET[:, step])
    assert rows == [11, 0, 0]


def test_no_prediction_sees_later_tokens_or_padding(model: EncoderDecoder) -> None:
    """Exactly: the gradients of what it must not see are zero, of all that it may see they are not."""
    embedded: list[torch.Tensor] = []

    def keep_gradient(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    model.embedding.register_forward_hook(keep_gradient)
    for position in range(7):
        embedded.clear()
        model(SOURCE, KEEP, TARGET)[:, position].square().sum().backward()
        source, target = (tensor.grad.abs().sum(-1) for tensor in embedded)
        assert not target[:, position + 1 :].any()
        assert target[:, : position + 1].all()
        assert not source[~KEEP].any()
        assert source[KEEP].all()


def test_padding_may_hold_anything(model: EncoderDecoder) -> None:
    other = torch.where(KEEP, SOURCE, (SOURCE + 5) % 31)
    with torch.no_grad():
        assert torch.equal(model(SOURCE, KEEP, TARGET), model(other, KEEP, TARGET))
        features = model.text_features(SOURCE, KEEP)
        assert features.shape == (3, 11, model.feature_width)
        assert torch.equal(features[KEEP], model.text_features(other, KEEP)[KEEP])
        alone = model(SOURCE[1:2, :6], None, TARGET[1:2])
        torch.testing.assert_close(alone, model(SOURCE, KEEP, TARGET)[1:2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("what", ["selective", "full"])
def test_recomputation_changes_nothing(model: EncoderDecoder, what: Recompute) -> None:
    gradients = []
    for kind in ("none", what):
        one = recompute(copy.deepcopy(model).train(), kind)
        nn.functional.cross_entropy(one(SOURCE, KEEP, TARGET).flatten(0, 1), TARGET.flatten()).backward()
        gradients.append({name: parameter.grad for name, parameter in one.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_dropout_is_for_training(model: EncoderDecoder) -> None:
    dropping = build_any(model.shape.model_copy(update={"dropout": 0.5}), seed=1)
    assert isinstance(dropping, Translator)
    dropping.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert not torch.equal(dropping(SOURCE, KEEP, TARGET), dropping(SOURCE, KEEP, TARGET))
        assert torch.equal(dropping.eval()(SOURCE, KEEP, TARGET), model(SOURCE, KEEP, TARGET))


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_model_is_at_unit_scale(kind: str) -> None:
    """The embeddings as the first block reads them, the logits, and each score of attention."""
    model = build_any(_shape(kind, width=128, num_heads=4, num_kv_heads=4, head_width=32), seed=1)
    assert isinstance(model, EncoderDecoder)
    with torch.no_grad():
        embedded = model.embedding(SOURCE) * model.embedding_scale
        assert 0.9 < float(embedded.std()) < 1.1
        others = torch.arange(31) != TARGET[:, :, None]  # with tied weights a token reminds of itself
        assert 0.7 < float(model(SOURCE, KEEP, TARGET)[others].std()) < 1.4
        attention, normal = (
            model.encoder[0].attention,
            torch.randn(500, 128, generator=torch.Generator().manual_seed(0)),
        )
        scores = attention.query(normal)[:, :32] @ attention.key(normal)[:, :32].T
        scale = 32**-0.5 if attention.dot_product.scale is None else attention.dot_product.scale
        assert 0.7 < float((scores * scale).std()) < 1.4


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        ("transformer", {"pre_norms": True}, "did you mean 'pre_norm'"),
        ("t5", {"gatd": True}, "did you mean 'gated'"),
        ("t5", {"num_buckets": 30}, "model.options.num_buckets=30"),
        ("t5", {"max_distance": 16}, "model.options.max_distance=16"),
        ("transformer", {"decoder_layers": 0}, "model.options.decoder_layers=0"),
    ],
)
def test_options_that_do_not_exist_are_named(kind: str, options: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=named):
        build_any(_shape(kind, options=options))
