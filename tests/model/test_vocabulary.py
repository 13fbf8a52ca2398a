"""New tokens: what becomes of the old ones, what the new ones start from, and that they alone are trained."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from groundup.model.decoder import Decoder
from groundup.model.lora import adapters_off, add_adapters, merge_adapters
from groundup.model.vocabulary import TokenRows, grow_vocabulary, train_rows
from groundup.objective.base import Batch
from groundup.objective.causal import CAUSAL
from groundup.shape import Shape

SIZE, NEW = 61, 4


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def model(request: pytest.FixtureRequest, make_shape: Callable[..., Shape], make_random: Callable[..., Decoder]):
    return make_random(make_shape("llama", tied=request.param))


@torch.no_grad()
def test_old_tokens_stay_and_new_ones_are_of_their_mean(model: Decoder, ids: Tensor) -> None:
    before, tables = model(ids), [table.weight for table in (model.embedding, model.unembedding) if table]
    grow_vocabulary(model, SIZE + NEW)
    assert model.shape.vocabulary_size == SIZE + NEW == model.embedding.num_embeddings
    after = model(ids)
    assert torch.equal(after[..., :SIZE], before)
    assert (after[..., SIZE:] - before.mean(-1, keepdim=True)).abs().max() < 0.05 * before.std()
    for old, table in zip(tables, (model.embedding, model.unembedding), strict=False):
        assert torch.equal(table.weight[:SIZE], old)
        assert len(table.weight[SIZE:].unique(dim=0)) == NEW


def test_a_grown_model_is_as_one_built_so(model: Decoder, make_random: Callable[..., Decoder]) -> None:
    """All of it can be trained, and its state fits another of its shape."""
    grow_vocabulary(model, SIZE + NEW)
    other = make_random(model.shape)
    other.load_state_dict(model.state_dict())
    assert all(parameter.requires_grad for parameter in model.parameters())


def _grown(model: Decoder) -> Decoder:
    add_adapters(model, 2, 4.0, "all", 0.0, seed=7)
    grow_vocabulary(model, SIZE + NEW)
    return model


def _rows(model: Decoder) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if name.endswith("rows")}


def test_beside_adapters_only_new_rows_learn(model: Decoder, ids: Tensor) -> None:
    """With the very gradients that the rows of a whole table have."""
    ids = ids.clone()
    ids[:, ::3] = torch.arange(SIZE, SIZE + NEW).repeat(2)
    whole = _whole(model, ids)
    _grown(model)
    CAUSAL.loss(model, Batch(ids[:, :-1], ids[:, 1:])).mean.backward()
    rows = _rows(model)
    assert {name.partition(".")[0] for name in rows} == set(whole)
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (not name.endswith("rows") and ".lora_" not in name), name
    for name, parameter in rows.items():
        expected = whole[name.partition(".")[0]][SIZE:]
        assert expected.abs().min(1).values.max() > 0
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-7)


def _whole(model: Decoder, ids: Tensor, size: int = SIZE + NEW) -> dict[str, Tensor]:
    """The gradients of a copy's whole tables, of so many rows."""
    copied = copy.deepcopy(model)
    grow_vocabulary(copied, size)
    CAUSAL.loss(copied, Batch(ids[:, :-1], ids[:, 1:])).mean.backward()
    tables = {"embedding": copied.embedding, "unembedding": copied.unembedding}
    return {name: table.weight.grad for name, table in tables.items() if table is not None}


@torch.no_grad()
def test_learnt_rows_are_there_off_and_merged(model: Decoder, ids: Tensor) -> None:
    ids = ids.clone()
    ids[0] = torch.arange(SIZE, SIZE + NEW).repeat(6)
    _grown(model)
    began = model(ids)
    for parameter in _rows(model).values():
        parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)))
    learnt = model(ids)
    assert (learnt - began)[0].abs().max() > 0.1
    with adapters_off(model):
        assert torch.equal(model(ids), began)
    merge_adapters(model)
    assert isinstance(model.embedding, torch.nn.Embedding)
    assert (model(ids) - learnt).abs().max() < 1e-5


@torch.no_grad()
def test_rows_of_any_tokens(model: Decoder, ids: Tensor) -> None:
    """Such as tokens in the room that a model has beyond its tokenizer."""
    add_adapters(model, 2, 4.0, "all", 0.0, seed=7)
    before = model(ids)
    train_rows(model, [17, 3, 60])
    assert torch.equal(model(ids), before)
    assert isinstance(model.embedding, TokenRows)
    assert model.embedding.ids.tolist() == [3, 17, 60]
    model.embedding.rows += 1
    changed = model.embedding(torch.arange(SIZE)) - model.embedding.base(torch.arange(SIZE))
    assert changed.any(1).nonzero().flatten().tolist() == [3, 17, 60]
    assert torch.equal(model.embedding(torch.arange(SIZE)), model.embedding.weight)


def test_all_rows_learn_as_whole_tables_do(model: Decoder, ids: Tensor) -> None:
    whole = _whole(model, ids, SIZE)
    add_adapters(model, 2, 4.0, "all", 0.0, seed=7)
    before = model(ids)
    train_rows(model, range(SIZE))
    assert torch.equal(model(ids), before)
    CAUSAL.loss(model, Batch(ids[:, :-1], ids[:, 1:])).mean.backward()
    rows = {name.partition(".")[0]: parameter for name, parameter in _rows(model).items()}
    assert rows.keys() == whole.keys()
    for name, parameter in rows.items():
        torch.testing.assert_close(parameter.grad, whole[name], rtol=1e-4, atol=1e-7)
    with torch.no_grad():
        for parameter in rows.values():
            parameter.add_(1)
    assert torch.equal(model.embedding(ids), model.embedding.base(ids) + 1)
    with adapters_off(model):
        assert torch.equal(model(ids), before)
