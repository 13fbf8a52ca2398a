import math
from collections import Counter
from itertools import permutations
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from groundup.interop.formats import format_of
from groundup.model.families.xlnet import XLNet
from groundup.model.registry import build_any
from groundup.objective import IGNORED, Objective, Setting
from groundup.objective.permuted import PermutedBatch, most_targets, permuted, target_spans
from groundup.recipe import TrainRecipe
from groundup.shape import Shape
from groundup.train.step import TrainStep

END, VOCABULARY, CONTEXT = 0, 37, 48
UNLIKELY = 1e-4


def _shape(**changes: Any) -> Shape:
    numbers: dict[str, Any] = {
        "num_layers": 3,
        "width": 24,
        "num_heads": 3,
        "num_kv_heads": 3,
        "head_width": 8,
        "feedforward_width": 40,
        "vocabulary_size": VOCABULARY,
        "context": CONTEXT,
        "norm_epsilon": 1e-12,
    }
    return Shape(family="xlnet", **numbers | changes)


@pytest.fixture(scope="module")
def model() -> XLNet:
    """With nothing left of zeros and ones."""
    model, random = build_any(_shape(), seed=1), torch.Generator().manual_seed(2)
    assert isinstance(model, XLNet)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random), alpha=0.2)
    return model.eval()


def _objective(**changes: Any) -> Objective:
    return permuted(Setting(**{"seed": 4, "shape": _shape(), "special": {"<|endoftext|>": END}} | changes))


def _windows(rows: int = 3) -> np.ndarray:
    return np.random.default_rng(7).integers(0, VOCABULARY, (rows, CONTEXT + 1))


# --- what is drawn ---


def test_every_position_is_a_target_one_time_in_six() -> None:
    """Each draw is asked for one position, so that all answers are independent."""
    length, draws, rng = 24, 400, np.random.default_rng(0)
    hits = np.zeros(length)
    for position in range(length):
        for _ in range(draws):
            hits[position] += any(start <= position < end for start, end in target_spans(length, rng))
    expected = np.full(length, draws / 6)
    statistic = np.sum((hits - expected) ** 2 / expected + (hits - expected) ** 2 / (draws - expected))
    assert stats.chi2.sf(statistic, length) > UNLIKELY


def test_spans_are_as_long_as_often_as_they_should() -> None:
    """n tokens with a probability in proportion to 1/n; those at the ends, which may be cut, left out."""
    spans = target_spans(60_000, np.random.default_rng(1))[1:-1]
    counts = Counter(end - start for start, end in spans)
    assert set(counts) == {1, 2, 3, 4, 5}
    shares = np.array([1 / n for n in sorted(counts)])
    expected = shares / shares.sum() * len(spans)
    assert stats.chisquare([counts[n] for n in sorted(counts)], expected).pvalue > UNLIKELY


def test_every_order_is_equally_likely() -> None:
    batch = _objective().collate(np.zeros((1500, CONTEXT + 1), np.int64))
    orders = batch.order_BGS.flatten(0, 1).tolist()
    of_three = Counter(tuple(found) for row in orders if len(found := [place for place in row if place >= 0]) == 3)
    assert set(of_three) == set(permutations(range(3)))
    assert stats.chisquare(list(of_three.values())).pvalue > UNLIKELY


@given(st.integers(1, 200), st.integers(0, 1 << 30))
def test_there_is_room_for_the_targets_of_any_draw(length: int, seed: int) -> None:
    spans = target_spans(length, np.random.default_rng(seed))
    places = [place for span in spans for place in range(*span)]
    assert places == sorted(set(places)) and all(0 <= place < length for place in places)
    assert len(places) <= most_targets(length) <= length


@pytest.mark.parametrize("recurrence", [True, False])
def test_a_batch_is_its_rows(recurrence: bool) -> None:
    objective, windows = _objective(shape=_shape(options={"recurrence": recurrence})), _windows(5)
    batch = objective.collate(windows, first=10)
    assert isinstance(batch, PermutedBatch)
    assert torch.equal(batch.ids_BGS.flatten(1), torch.from_numpy(windows[:, :-1]))
    assert batch.ids_BGS.shape == (5, 2 if recurrence else 1, CONTEXT // (2 if recurrence else 1))
    for row in range(5):
        alone = objective.collate(windows[row : row + 1], first=10 + row)
        for name in vars(batch):
            assert torch.equal(getattr(alone, name), getattr(batch, name)[row : row + 1]), name
    counted = batch.targets != IGNORED
    assert torch.equal(batch.targets[counted], batch.ids_BGS.gather(2, batch.positions_BGN)[counted])
    assert batch.num_targets == int((batch.order_BGS >= 0).sum())
    assert (batch.order_BGS.gather(2, batch.positions_BGN)[counted] >= 0).all()


# --- who sees what ---


def _predictions(model: XLNet, objective: Objective, batch: PermutedBatch) -> tuple[Tensor, list[Tensor]]:
    """The logits of all targets, one after the other segment by segment, and what the embedding gave for each."""
    logits: list[Tensor] = []
    embedded: list[Tensor] = []

    def unembed(x_ND: Tensor) -> Tensor:
        logits.append(type(model).unembed(model, x_ND))
        return logits[0]

    hook = model.embedding.register_forward_hook(lambda _module, _inputs, made: embedded.append(made))
    with patch.object(model, "unembed", unembed):
        objective.loss(model, batch)
    hook.remove()
    return logits[0], embedded


def _targets(batch: PermutedBatch) -> list[tuple[int, int]]:
    """Segment and position of each target of the one row, in the order of the logits."""
    segments, rooms = torch.nonzero(batch.targets[0] != IGNORED, as_tuple=True)
    return [
        (int(segment), int(batch.positions_BGN[0, segment, room]))
        for segment, room in zip(segments, rooms, strict=True)
    ]


@pytest.mark.parametrize("recurrence", [True, False])
def test_no_gradient_comes_from_what_is_not_before_it_in_the_order(model: XLNet, recurrence: bool) -> None:
    objective = _objective(shape=_shape(options={"recurrence": recurrence}), special={})
    for row in range(3):
        batch = objective.collate(_windows()[row : row + 1], first=row)
        logits, embedded = _predictions(model, objective, batch)
        targets = _targets(batch)
        assert len(targets) == len(logits) > 3
        for logit, (segment, position) in zip(logits, targets, strict=True):
            gradients = torch.autograd.grad(logit.sum(), embedded, retain_graph=True)
            order = batch.order_BGS[0, segment]
            seen = (order < order[position]).tolist()  # what is no target is at -1
            assert gradients[segment][0].any(dim=-1).tolist() == seen
            assert not any(gradients[other].any() for other in range(len(embedded)) if other != segment)


def test_a_prediction_depends_on_what_comes_before_it_alone(model: XLNet) -> None:
    """Other tokens from it on in the order, or another order of those behind it, change not a bit of it."""
    objective, rng = _objective(), np.random.default_rng(3)
    batch = objective.collate(_windows(1), first=2)
    logits, _ = _predictions(model, objective, batch)
    for index, (segment, position) in enumerate(_targets(batch)):
        order = batch.order_BGS[0, segment]
        later = order >= order[position]
        ids, other_order = batch.ids_BGS.clone(), batch.order_BGS.clone()
        ids[0, segment, later] = (ids[0, segment, later] + 1 + int(rng.integers(30))) % VOCABULARY
        behind = torch.nonzero(order > order[position]).flatten()
        other_order[0, segment, behind] = order[behind[torch.from_numpy(rng.permutation(len(behind)))]]
        changed = PermutedBatch(batch.targets, ids, batch.positions_BGN, other_order, batch.documents_BGS)
        assert torch.equal(_predictions(model, objective, changed)[0][index], logits[index])
        earlier = torch.nonzero(order < order[position]).flatten()
        ids = batch.ids_BGS.clone()
        ids[0, segment, earlier[0]] = (ids[0, segment, earlier[0]] + 1) % VOCABULARY
        changed = PermutedBatch(batch.targets, ids, batch.positions_BGN, batch.order_BGS, batch.documents_BGS)
        assert not torch.allclose(_predictions(model, objective, changed)[0][index], logits[index], atol=1e-4)


def test_the_second_half_sees_the_first_through_the_memory(model: XLNet) -> None:
    objective = _objective(special={})
    batch = objective.collate(_windows(1))
    ids = batch.ids_BGS.clone()
    ids[0, 0, 5] = (ids[0, 0, 5] + 1) % VOCABULARY
    changed = PermutedBatch(batch.targets, ids, batch.positions_BGN, batch.order_BGS, batch.documents_BGS)
    second = [segment == 1 for segment, _ in _targets(batch)]
    before, after = (_predictions(model, objective, one)[0][second] for one in (batch, changed))
    assert (before - after).abs().amax(-1).gt(1e-5).all()


def test_attention_keeps_within_documents_where_it_shall(model: XLNet) -> None:
    """Also a target alone in its document, which sees nothing, has a loss."""
    windows = _windows(1)
    windows[0, 1:] = windows[0, 1:].clip(1)
    windows[0, [10, 11, 30]] = END
    objective = _objective(border=END)
    batch = objective.collate(windows)
    documents = batch.documents_BGS[0]
    assert sorted(set(documents.flatten().tolist())) == [0, 1, 2, 3]
    changed_ids = batch.ids_BGS.clone()
    changed_ids[0][documents != 2] = 5
    changed = PermutedBatch(batch.targets, changed_ids, batch.positions_BGN, batch.order_BGS, batch.documents_BGS)
    within = [int(documents[segment, position]) == 2 for segment, position in _targets(batch)]
    before, after = (_predictions(model, objective, one)[0] for one in (batch, changed))
    assert any(within) and torch.equal(before[within], after[within])
    alone = windows.copy()
    alone[0] = END
    assert torch.isfinite(objective.loss(model, objective.collate(alone)).mean)


# --- the loss ---


def _perm_mask(order: np.ndarray) -> np.ndarray:
    """As XLNet's data_utils makes it: i may not look at j where its place is not behind that of the target j."""
    is_target = order >= 0
    own = np.where(is_target, order, order + 1)
    return ((own[:, None] <= order[None, :]) & is_target[None, :]).astype(np.float32)


def test_the_loss_and_its_gradients_are_those_of_transformers(model: XLNet) -> None:
    """Both halves with perm_mask and target_mapping, the second with the first's mems; one document."""
    written = format_of("xlnet")
    config = transformers.XLNetConfig.from_dict(written.to_config(model.shape, {"<|endoftext|>": END}))
    theirs = transformers.XLNetLMHeadModel(config).eval()
    theirs.load_state_dict(written.to_tensors(model.shape, model.state_dict()), strict=False)
    objective = _objective(special={})
    batch = objective.collate(_windows(2))
    ours = objective.loss(model, batch)
    total, mems = torch.zeros(()), None
    for segment in range(2):
        mask = torch.stack([torch.from_numpy(_perm_mask(order.numpy())) for order in batch.order_BGS[:, segment]])
        answer = theirs(
            batch.ids_BGS[:, segment],
            perm_mask=mask,
            target_mapping=torch.nn.functional.one_hot(batch.positions_BGN[:, segment], CONTEXT // 2).float(),
            token_type_ids=torch.zeros_like(batch.ids_BGS[:, segment]),
            mems=mems,
            use_mems=True,
        )
        mems = answer.mems
        total = total + torch.nn.functional.cross_entropy(
            answer.logits.flatten(0, 1), batch.targets[:, segment].flatten(), reduction="sum"
        )
    theirs_mean = total / batch.num_targets
    assert ours.num_targets == batch.num_targets
    assert abs(float(ours.mean.detach() - theirs_mean.detach())) < 1e-5
    model.zero_grad()
    ours.mean.backward()
    theirs_mean.backward()
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    found = written.to_tensors(model.shape, gradients)
    for name, value in theirs.named_parameters():
        # One segment alone gives its vectors and bias no gradient but rounding.
        if not name.endswith(("seg_embed", "r_s_bias")):
            assert value.grad is not None
            assert (found[name] - value.grad).norm() <= 1e-4 * value.grad.norm(), name


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16-weights"])
def test_recomputation_changes_nothing(precision: str) -> None:
    """Also where autocast has the weights of a block shortened already when its second half comes."""
    found = []
    for what in ("none", "selective", "full"):
        model = build_any(_shape(dropout=0.1), seed=1)
        settings = TrainRecipe(optimizer="adamw", recompute=what, micro_batch=2)
        step = TrainStep(model, _objective(), settings, precision=precision, device="cpu")
        found.append([step(_windows(4), 1e-2).loss for _ in range(3)])
    assert found[0] == found[1] == found[2]
    assert found[0][2] < found[0][0]


def test_it_learns_what_the_text_around_says() -> None:
    """Rows that count on in steps of their own; a guess would cost ln 37 = 3.6 nats."""
    shape = _shape(num_layers=2, width=32, num_heads=2, num_kv_heads=2, head_width=16, context=32)
    objective, rng = _objective(shape=shape, special={}), np.random.default_rng(0)
    step = TrainStep(build_any(shape), objective, TrainRecipe(optimizer="muon"), precision="fp32", device="cpu")

    def rows(count: int) -> np.ndarray:
        starts, steps = rng.integers(0, VOCABULARY, (count, 1)), rng.integers(1, 4, (count, 1))
        return (starts + steps * np.arange(shape.context + 1)) % VOCABULARY

    first = step(rows(16), 1e-2).loss
    assert abs(first - math.log(VOCABULARY)) < 0.3
    for number in range(160):
        step(rows(16), 1e-2, first=16 * number)
    model = step.model.eval()
    with torch.no_grad():
        judged = objective.loss(model, objective.collate(rows(64)))
    assert judged.num_correct is not None
    assert judged.num_correct / judged.num_targets > 0.6 and float(judged.mean) < 1.5
