from typing import Any

import numpy as np
import pytest
import torch

from groundup.errors import UserError
from groundup.model.attentional import Alignment, BahdanauDecoder, LuongDecoder, Read
from groundup.model.families.seq2seq import RecurrentTranslator
from groundup.model.registry import build_any
from groundup.model.translator import Translator
from groundup.objective import OBJECTIVES, Objective, Setting
from groundup.recipe import TrainRecipe
from groundup.shape import Shape
from groundup.train.step import TrainStep

from .conftest import MakeShape

KINDS: list[dict[str, Any]] = [
    {"attention": "bahdanau"},
    {"attention": "dot"},
    {"attention": "general"},
    {"attention": "concat"},
    {"attention": "general", "input_feeding": True},
]
SOURCE_KEEP = torch.arange(9) < torch.tensor([9, 6, 1])[:, None]
NUM_WORDS, SEPARATOR, END, PADDING = 16, 16, 17, 18


@pytest.fixture(params=KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
def model(request: pytest.FixtureRequest, make_shape: MakeShape) -> RecurrentTranslator:
    return _model(make_shape("seq2seq", options=request.param))


def _model(shape: Shape) -> RecurrentTranslator:
    model, random = build_any(shape, seed=1), torch.Generator().manual_seed(2)
    assert isinstance(model, RecurrentTranslator) and isinstance(model, Translator)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=random), alpha=0.2)
    return model.eval()


def _ids(length: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 61, (3, length), generator=torch.Generator().manual_seed(seed))


SOURCE, TARGET = _ids(9, 0), _ids(7, 1)


@pytest.mark.parametrize("score", ["bahdanau", "dot", "general", "concat"])
def test_alignments_are_the_formulas_of_the_papers(score: Any) -> None:
    """Query by query in float64, with einsum; padding gets nothing."""
    random = torch.Generator().manual_seed(0)
    width, values = 6, 6 if score == "dot" else 10
    alignment = Alignment(score, width, values).double()
    with torch.no_grad():
        for weight in alignment.parameters():
            weight.copy_(torch.randn(weight.shape, generator=random, dtype=torch.float64))
    query = torch.randn(3, 4, width, generator=random, dtype=torch.float64)
    read = torch.randn(3, 9, values, generator=random, dtype=torch.float64)
    weights = dict(alignment.named_parameters())
    if score == "dot":
        scores = torch.einsum("nti,nsi->nts", query, read)
    elif score == "general":
        scores = torch.einsum("nti,ij,nsj->nts", query, weights["key.weight"], read)
    else:
        joined = torch.cat([weights["query.weight"], weights["key.weight"]], 1)  # W [q; h]
        pairs = torch.cat([query[:, :, None].expand(-1, -1, 9, -1), read[:, None].expand(-1, 4, -1, -1)], -1)
        scores = torch.einsum("i,ntsi->nts", weights["energy.weight"][0], torch.tanh(pairs @ joined.T))
    likely = torch.exp(scores) * SOURCE_KEEP[:, None]
    expected = likely / likely.sum(-1, keepdim=True)
    context, found = alignment(query, Read(read, alignment.key(read), SOURCE_KEEP))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(context, torch.einsum("nts,nse->nte", expected, read), rtol=1e-10, atol=1e-12)
    assert not found[~SOURCE_KEEP[:, None].expand(-1, 4, -1)].any()


@torch.no_grad()
def test_bahdanaus_decoder_is_that_of_the_paper(make_shape: MakeShape) -> None:
    """Token by token with torch's cell, and the maxout pair by pair."""
    model = _model(make_shape("seq2seq", num_layers=1))
    decoder = model.decoder
    assert isinstance(decoder, BahdanauDecoder)
    read = model.encode(SOURCE)
    cell = torch.nn.GRUCell(64, 32)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in decoder.cell.state_dict().items()})
    state = torch.tanh(decoder.first(read.values_NSE[:, 0, 16:]))
    logits = []
    for token in TARGET.unbind(1):
        context = decoder.alignment(state[:, None], read)[0][:, 0]
        pairs = decoder.maxout(torch.cat([state, model.embedding(token), context], -1))
        logits.append(torch.maximum(pairs[:, 0::2], pairs[:, 1::2]) @ model.embedding.weight.T)
        state = cell(torch.cat([model.embedding(token), context], -1), state)
    torch.testing.assert_close(model(SOURCE, None, TARGET), torch.stack(logits, 1))


@pytest.mark.parametrize("input_feeding", [True, False])
@torch.no_grad()
def test_luongs_decoder_is_that_of_the_paper(input_feeding: bool, make_shape: MakeShape) -> None:
    """Token by token with torch's cell; what attention made of a step is fed to the next, or is not."""
    options = {"attention": "general", "input_feeding": input_feeding}
    model = _model(make_shape("seq2seq", num_layers=1, tied=False, options=options))
    decoder = model.decoder
    assert isinstance(decoder, LuongDecoder) and model.unembedding is not None
    read = model.encode(SOURCE)
    cell = torch.nn.GRUCell(64 if input_feeding else 32, 32)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in decoder.cell.state_dict().items()})
    state, fed, logits = torch.tanh(decoder.first(read.values_NSE[:, 0, 16:])), torch.zeros(3, 32), []
    for token in TARGET.unbind(1):
        x = model.embedding(token)
        state = cell(torch.cat([x, fed], -1) if input_feeding else x, state)
        context = decoder.alignment(state[:, None], read)[0][:, 0]
        fed = torch.tanh(decoder.combine(torch.cat([context, state], -1)))
        logits.append(model.unembedding(fed))
    torch.testing.assert_close(model(SOURCE, None, TARGET), torch.stack(logits, 1))


@torch.no_grad()
def test_steps_give_what_all_at_once_gives(model: RecurrentTranslator) -> None:
    """Also after targets have gone on from each other; two beams a source, with padding."""
    both = TARGET.repeat_interleave(2, 0)
    both[1::2, 2:] = TARGET.flip(1)[:, 2:]
    wide, keep = SOURCE.repeat_interleave(2, 0), SOURCE_KEEP.repeat_interleave(2, 0)
    swapped = torch.tensor([1, 0, 2, 2, 5, 4])
    state = model.start(model.encode(SOURCE, SOURCE_KEEP), beams=2)
    for place in range(7):
        logits, state = model.step(state, both[:, place])
        torch.testing.assert_close(logits, model(wide, keep, both)[:, place])
        if place == 3:
            state, both = model.reorder(state, swapped), both[swapped]


@torch.no_grad()
def test_padding_changes_nothing(model: RecurrentTranslator) -> None:
    """Each source alone gives the same logits, alignments and features, whatever the padding is."""
    logits, weights = model(SOURCE, SOURCE_KEEP, TARGET), model.alignments(SOURCE, SOURCE_KEEP, TARGET)
    features = model.text_features(SOURCE, SOURCE_KEEP)
    assert features.shape[-1] == model.feature_width
    other = torch.where(SOURCE_KEEP, SOURCE, (SOURCE + 1) % 61)
    torch.testing.assert_close(model(other, SOURCE_KEEP, TARGET), logits, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 7))
    for row, keep in enumerate(SOURCE_KEEP):
        alone, target = SOURCE[row : row + 1, keep], TARGET[row : row + 1]
        torch.testing.assert_close(model(alone, None, target)[0], logits[row], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model.alignments(alone, None, target)[0], weights[row][:, keep])
        assert not weights[row][:, ~keep].any()
        torch.testing.assert_close(model.text_features(alone)[0], features[row, keep])


def test_no_prediction_sees_the_target_behind_it(model: RecurrentTranslator) -> None:
    """Its gradient is exactly zero there; it sees the whole source but its padding, and the target before."""
    embedded: list[torch.Tensor] = []
    model.embedding.register_forward_hook(lambda module, inputs, output: embedded.append(output))
    logits = model(SOURCE, SOURCE_KEEP, TARGET)
    source, target = embedded
    for place in range(7):
        pull = logits[:, place].sin().sum()
        from_source, from_target = torch.autograd.grad(pull, (source, target), retain_graph=True)
        assert torch.equal(from_target.abs().amax(-1) > 0, (torch.arange(7) <= place).expand(3, -1)), place
        assert torch.equal(from_source.abs().amax(-1) > 0, SOURCE_KEEP), place


def _rows(count: int, seed: int, *, backwards: bool) -> np.ndarray:
    """Of 3 to 6 symbols the same, or the same backwards."""
    random, rows = np.random.default_rng(seed), np.full((count, 14), -1)
    for row in rows:
        source = random.integers(0, NUM_WORDS, random.integers(3, 7))
        row[: 2 * len(source) + 2] = [*source, SEPARATOR, *(source[::-1] if backwards else source), END]
    return rows


def _trained(shape: Shape, objective: Objective, *, backwards: bool) -> RecurrentTranslator:
    model, steps = build_any(shape, seed=1), 160
    assert isinstance(model, RecurrentTranslator)
    settings = TrainRecipe(optimizer="adamw", weight_decay=0.0)
    step = TrainStep(model, objective, settings, precision="fp32", device="cpu")
    for number in range(steps):
        step(_rows(32, number, backwards=backwards), lr=0.01 * min(1.0, 2 - 2 * number / steps))
    return model.eval()


@pytest.mark.parametrize("backwards", [False, True], ids=["copy", "reverse"])
@pytest.mark.parametrize("attention", ["bahdanau", "general"])
@torch.no_grad()
def test_it_learns_to_copy_and_to_reverse(attention: str, backwards: bool, make_shape: MakeShape) -> None:
    """More than 99 % of the tokens of new rows, and it looks at the symbol that it is about to write."""
    options = {"attention": attention}
    shape = make_shape("seq2seq", num_layers=1, width=64, vocabulary_size=20, options=options)
    objective = OBJECTIVES["translation"](Setting(special={"<|sep|>": SEPARATOR, "<|pad|>": PADDING}))
    with torch.enable_grad():
        model = _trained(shape, objective, backwards=backwards)
    loss = objective.loss(model, objective.collate(_rows(200, 10_000, backwards=backwards)))
    assert loss.num_correct is not None and loss.num_correct / loss.num_targets > 0.99
    source = torch.arange(6)[None]
    target = torch.cat([torch.tensor([[SEPARATOR]]), source.flip(1) if backwards else source[:, :-1]], 1)[:, :6]
    looks_at = model.alignments(source, None, target)[0].argmax(-1).tolist()
    assert looks_at == [5, 4, 3, 2, 1, 0] if backwards else looks_at == [0, 1, 2, 3, 4, 5]


def test_what_does_not_go_together_is_refused(make_shape: MakeShape) -> None:
    with pytest.raises(UserError, match="bahdanau's attention feeds each step anyway"):
        build_any(make_shape("seq2seq", options={"input_feeding": True}))
    with pytest.raises(UserError, match="'bahdanau', 'dot', 'general' or 'concat'"):
        build_any(make_shape("seq2seq", options={"attention": "none"}))
    with pytest.raises(UserError, match=r"model\.width=33 is odd"):
        build_any(make_shape("seq2seq", width=33))
