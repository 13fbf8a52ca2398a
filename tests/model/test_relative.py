"""Relative attention, and XLNet's two streams on it; that they are transformers' is in tests/interop."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from groundup.errors import UserError
from groundup.model.families.xlnet import XLNet
from groundup.model.registry import build_any
from groundup.model.relative import RelativeAttention, View, relative_sinusoids
from groundup.shape import Shape

MEMORY, LENGTH, WIDTH, HEADS = 5, 7, 12, 3
NUM_KEYS = MEMORY + LENGTH


def _shape(**changes: Any) -> Shape:
    numbers: dict[str, Any] = {
        "num_layers": 2,
        "width": WIDTH,
        "num_heads": HEADS,
        "num_kv_heads": HEADS,
        "head_width": WIDTH // HEADS,
        "feedforward_width": 20,
        "vocabulary_size": 31,
        "context": 16,
        "norm_epsilon": 1e-12,
    }
    return Shape(family="xlnet", **numbers | changes)


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.fixture
def attention(random: torch.Generator) -> RelativeAttention:
    attention = RelativeAttention(_shape()).double()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random))
    return attention


@pytest.fixture
def model(random: torch.Generator) -> XLNet:
    """With nothing left of zeros and ones."""
    model = build_any(_shape(), seed=1)
    assert isinstance(model, XLNet)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random), alpha=0.3)
    return model.eval()


def _sinusoids() -> Tensor:
    return relative_sinusoids(NUM_KEYS, LENGTH, WIDTH, torch.device("cpu")).double()


def _by_the_formula(
    attention: RelativeAttention, tokens_SD: Tensor, visible_TS: Tensor, segments: list[int]
) -> Tensor:
    """Token by token and head by head, with each distance's sinusoid made anew."""
    width = attention.head_width
    rows = []
    for i in range(LENGTH):
        mixed = []
        for head in range(HEADS):
            part = slice(head * width, (head + 1) * width)
            query = attention.query.weight[part] @ tokens_SD[MEMORY + i]
            scores = []
            for j in range(NUM_KEYS):
                angles = [(MEMORY + i - j) / 10_000 ** (c / WIDTH) for c in range(0, WIDTH, 2)]
                sinusoid = torch.tensor([*map(math.sin, angles), *map(math.cos, angles)], dtype=torch.float64)
                segment = attention.segments.weight[int(segments[MEMORY + i] != segments[j])][part]
                score = (query + attention.content_bias[part]) @ (attention.key.weight[part] @ tokens_SD[j])
                score += (query + attention.position_bias[part]) @ (attention.position.weight[part] @ sinusoid)
                score += (query + attention.segment_bias[part]) @ segment
                scores.append(score / math.sqrt(width) if visible_TS[i, j] else torch.tensor(-torch.inf))
            weights = torch.stack([score.double() for score in scores]).softmax(0)
            mixed.append(weights @ (tokens_SD @ attention.value.weight[part].T))
        rows.append(attention.output.weight @ torch.cat(mixed))
    return torch.stack(rows)


def test_attention_is_the_formula(attention: RelativeAttention, random: torch.Generator) -> None:
    tokens_SD = torch.randn(NUM_KEYS, WIDTH, generator=random, dtype=torch.float64)
    visible_TS = torch.rand(LENGTH, NUM_KEYS, generator=random) < 0.6
    visible_TS[:, 2] = True
    segments = [0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 1, 3]
    view = View.of_all(visible_TS[None], torch.tensor([segments]))
    found = attention(tokens_SD[None, MEMORY:], attention.see(tokens_SD[None], _sinusoids()), view)[0]
    expected = _by_the_formula(attention, tokens_SD, visible_TS, segments)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)  # distances are in float32


def test_one_segment_is_as_good_as_none(attention: RelativeAttention, random: torch.Generator) -> None:
    """What is added to all scores of a query alike changes no weight."""
    x = torch.randn(2, LENGTH, WIDTH, generator=random, dtype=torch.float64)
    seen = attention.see(x, relative_sinusoids(LENGTH, LENGTH, WIDTH, x.device).double())
    visible = torch.ones(1, LENGTH, LENGTH, dtype=torch.bool)
    without, one = (View.of_all(visible, segments) for segments in (None, torch.ones(2, LENGTH)))
    torch.testing.assert_close(attention(x, seen, one), attention(x, seen, without))


def test_queries_at_some_positions_are_those_rows(attention: RelativeAttention, random: torch.Generator) -> None:
    tokens = torch.randn(2, NUM_KEYS, WIDTH, generator=random, dtype=torch.float64)
    positions = torch.tensor([[6, 0, 3], [1, 1, 5]])
    view = View.of_all(
        torch.rand(2, LENGTH, NUM_KEYS, generator=random) < 0.7,
        torch.randint(3, (2, NUM_KEYS), generator=random),
    )
    seen, rows = attention.see(tokens, _sinusoids()), positions[..., None].expand(-1, -1, WIDTH)
    x = tokens[:, MEMORY:]
    found = attention(x.gather(1, rows), seen, view.at(positions))
    torch.testing.assert_close(found, attention(x, seen, view).gather(1, rows))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_query_that_may_look_nowhere_gathers_nothing(
    attention: RelativeAttention, random: torch.Generator, dtype: torch.dtype
) -> None:
    """Nor does a gradient flow, where a softmax over nothing would be no number."""
    attention = attention.to(dtype)
    x = torch.randn(1, LENGTH, WIDTH, generator=random).to(dtype).requires_grad_()
    visible = torch.ones(1, LENGTH, LENGTH, dtype=torch.bool)
    visible[0, 3] = False
    sinusoids = relative_sinusoids(LENGTH, LENGTH, WIDTH, x.device).to(dtype)
    found = attention(x, attention.see(x, sinusoids), View.of_all(visible, None))
    assert found.isfinite().all() and not found[0, 3].any() and found[0, 2].any()
    assert not torch.autograd.grad(found[0, 3].sum(), x, retain_graph=True)[0].any()
    assert torch.autograd.grad(found.sum(), x)[0].isfinite().all()


def test_a_memory_stands_for_the_text_before(model: XLNet) -> None:
    """In one pass, where the first part may not look at the second, and part by part: the same at any depth."""
    ids = torch.randint(31, (2, 10), generator=torch.Generator().manual_seed(0))
    first, second = ids[:, :4], ids[:, 4:]
    visible = torch.ones(1, 10, 10, dtype=torch.bool)
    visible[:, :4, 4:] = False
    segments = torch.tensor([[0, 0, 1, 1, 1, 1, 2, 2, 2, 3]]).expand(2, -1)
    with torch.no_grad():
        whole, _ = model.streams(ids, visible, segments_BS=segments)
        begun, memory = model.streams(first, segments_BS=segments[:, :4])
        rest, _ = model.streams(second, segments_BS=segments, memory=memory)
    torch.testing.assert_close(torch.cat([begun, rest], dim=1), whole, rtol=1e-5, atol=1e-5)
    assert [part.shape for part in memory] == [(2, 4, WIDTH)] * 2
    assert not any(part.requires_grad for part in model.streams(first)[1])


def test_features_do_not_depend_on_padding(model: XLNet) -> None:
    ids = torch.randint(31, (2, 9), generator=torch.Generator().manual_seed(0))
    keep = torch.arange(9) < torch.tensor([[6], [9]])
    with torch.no_grad():
        features = model.text_features(ids, keep)
        alone = model.text_features(ids[:1, :6])
        changed = model.text_features(ids.where(keep, 7), keep)
    assert features.shape == (2, 9, model.feature_width)
    torch.testing.assert_close(features[:1, :6], alone, rtol=1e-5, atol=1e-5)
    assert torch.equal(features[keep], changed[keep])
    assert not torch.allclose(model.text_features(ids)[0, :6], alone[0], atol=1e-2)  # which is read without it


@torch.no_grad()
def test_what_nobody_reads_of_the_last_block_is_not_computed(model: XLNet) -> None:
    """Its content stream, where there are queries: what they look at is what the block is given."""
    counts = []
    for block in model.blocks:
        block.feedforward.register_forward_hook(lambda _, __, out: counts.append(out.shape[1]))
    ids = torch.arange(10)[None]
    model.streams(ids, positions_BN=torch.tensor([[2, 7]]))
    assert counts == [2, 10, 2]
    counts.clear()
    model.streams(ids)
    assert counts == [10, 10]


def test_every_parameter_gets_a_gradient(random: torch.Generator) -> None:
    model = build_any(_shape(tied=False), seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random), alpha=0.3)
    ids, segments = torch.arange(10)[None], torch.arange(10)[None] // 4
    visible = torch.ones(1, 10, 10, dtype=torch.bool).tril(-1)
    model(ids, visible, torch.tensor([[2, 7]]), segments).logsumexp(-1).sum().backward()
    assert all(value.grad is not None and value.grad.any() for value in model.parameters())


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"num_kv_heads": 1}, "num_kv_heads = num_heads"),
        ({"head_width": 5}, "num_heads . head_width = width"),
        ({"width": 9, "head_width": 3}, "model.width=9 is odd"),
        ({"options": {"recurence": False}}, "did you mean 'recurrence'"),
    ],
)
def test_what_it_cannot_be_is_one_line(changes: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError, match=part) as error:
        build_any(_shape(**changes))
    assert "\n" not in str(error.value)
