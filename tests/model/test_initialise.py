import math

import torch
import torch.nn.functional as F

from groundup.model.registry import build
from groundup.shape import FAMILIES

from .conftest import MakeShape


def test_the_seed_decides_the_weights(family: str, make_shape: MakeShape) -> None:
    shape = make_shape(family)
    first = build(shape, seed=5).state_dict()
    torch.manual_seed(99)  # the global generator has no say
    again, other = build(shape, seed=5).state_dict(), build(shape, seed=6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if first[name].std() > 0)


def test_building_leaves_the_global_generator_alone(family: str, make_shape: MakeShape) -> None:
    torch.manual_seed(1)
    build(make_shape(family), seed=5)
    after = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(3))


def test_every_block_starts_as_the_identity(family: str, make_shape: MakeShape) -> None:
    """But for the norms of those that have them behind attention and feed-forward."""
    model = build(make_shape(family, num_layers=3), seed=1)
    x = torch.randn(2, 10, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for block in model.blocks:
            expected = block.feedforward_norm(block.attention_norm(x)) if FAMILIES[family].post_norm else x
            assert torch.equal(block(x, model.rotary, None), expected)


def test_the_first_loss_is_that_of_a_guess(family: str, make_shape: MakeShape) -> None:
    """ln V for tied and untied unembeddings, at another width and vocabulary too."""
    for changes in ({"tied": True}, {"tied": True, "width": 64, "head_width": 16, "vocabulary_size": 500}):
        shape = make_shape(family, **changes)
        ids = torch.randint(0, shape.vocabulary_size, (16, 24), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            logits = build(shape, seed=1)(ids[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        assert abs(float(loss) - math.log(shape.vocabulary_size)) < 0.05


def test_readers_of_the_stream_keep_its_scale(family: str, make_shape: MakeShape) -> None:
    """Inputs of unit variance leave these matrices with unit variance."""
    shape = make_shape(family, width=256, head_width=64, feedforward_width=300)
    model = build(shape, seed=1)
    x = torch.randn(1000, 256, generator=torch.Generator().manual_seed(0))
    attention, feedforward = model.blocks[0].attention, model.blocks[0].feedforward
    reader = feedforward.router if shape.num_experts else feedforward.up
    with torch.no_grad():
        for linear in (attention.query, attention.key, attention.value, reader):
            assert abs(float(linear(x).std()) - 1) < 0.05


def test_nothing_is_left_of_the_meta_device(family: str, make_shape: MakeShape) -> None:
    """Memory that `to_empty` gave and nobody filled would show as what was in it before."""
    model = build(make_shape(family, tied=False), seed=1)
    values = [*model.named_parameters(), *model.named_buffers()]
    assert all(value.device.type == "cpu" and value.isfinite().all() for _, value in values)
    again = dict([*build(make_shape(family, tied=False), seed=1).named_buffers()])
    assert all(torch.equal(again[name], value) for name, value in model.named_buffers())
