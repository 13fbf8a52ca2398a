"""Low-rank adapters: what they add, what alone they train, and that nothing else notices them."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from groundup.errors import UserError
from groundup.model.decoder import Decoder
from groundup.model.lora import (
    LoraLinear,
    adapters_off,
    add_adapters,
    has_adapters,
    merge_adapters,
)
from groundup.parallel.recompute import recompute
from groundup.shape import Shape
from groundup.train.compile import compile_modules, why_not_compiled

ADAPTED = ("gpt1", "gpt2", "llama", "qwen3")


@pytest.fixture
def adapted(request: pytest.FixtureRequest, make_shape: Callable[..., Shape], make_random: Callable[..., Decoder]):
    """A model of a family with adapters that have learnt something."""

    def make(family: str = "llama", dropout: float = 0.0, **changes: object) -> Decoder:
        model = make_random(make_shape(family, **changes))
        add_adapters(model, 4, 12.0, "all", dropout, seed=7)
        draw(model)
        return model

    return make


def draw(model: Decoder) -> None:
    """Let B be something."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, LoraLinear):
                module.lora_B.weight.copy_(torch.randn(module.lora_B.weight.shape, generator=generator) * 0.1)


def matrices(model: nn.Module) -> dict[str, LoraLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}


@torch.no_grad()
def test_it_adds_the_low_rank_product(adapted: Callable[..., Decoder]) -> None:
    """Against W + alpha/rank B A in float64."""
    for module in matrices(adapted()).values():
        x = torch.randn(5, 40, module.base.in_features, generator=torch.Generator().manual_seed(1))
        whole = (
            module.base.weight.double() + 12 / 4 * module.lora_B.weight.double() @ module.lora_A.weight.double()
        )
        assert (module(x) - x.double() @ whole.T).abs().max() < 1e-5


@pytest.mark.parametrize("family", ADAPTED)
@pytest.mark.parametrize("targets", ["attention", "all"])
@torch.no_grad()
def test_new_adapters_change_nothing_and_stand_where_they_should(
    family: str, targets: str, make_shape: Callable[..., Shape], make_random: Callable[..., Decoder], ids: Tensor
) -> None:
    model = make_random(make_shape(family))
    before = model(ids)
    names = add_adapters(model, 2, 4.0, targets, 0.0, seed=7)
    gates = ["feedforward.gate"] if family in ("llama", "qwen3") else []
    of_block = [f"attention.{name}" for name in ("query", "key", "value", "output")]
    of_block += [*gates, "feedforward.up", "feedforward.down"] if targets == "all" else []
    assert names == [f"blocks.{layer}.{name}" for layer in (0, 1) for name in of_block] == list(matrices(model))
    assert torch.equal(model(ids), before)


def test_gradients_reach_the_adapters_alone(adapted: Callable[..., Decoder], ids: Tensor) -> None:
    model = adapted()
    model(ids).square().mean().backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {f"{name}.lora_{half}.weight" for name in matrices(model) for half in "AB"}
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == (name in trained), name


def test_what_is_drawn_follows_from_seed_and_name_alone(
    make_shape: Callable[..., Shape], make_random: Callable[..., Decoder]
) -> None:
    """Also where other matrices have none, and whatever others have drawn; bounded as `torch.nn.Linear` is."""
    drawn = []
    for targets, seed in (("all", 7), ("attention", 7), ("all", 8)):
        model = make_random(make_shape("llama"))
        torch.rand(3)
        before = torch.get_rng_state()
        add_adapters(model, 4, 8.0, targets, 0.0, seed)
        assert torch.equal(torch.get_rng_state(), before)
        drawn.append({name: module.lora_A.weight for name, module in matrices(model).items()})
    for name, weight in drawn[1].items():
        assert torch.equal(weight, drawn[0][name])
        assert not torch.equal(weight, drawn[2][name])
    for weight in drawn[0].values():
        bound = weight.shape[1] ** -0.5
        assert bound * 0.8 < weight.abs().max() <= bound
    assert not torch.equal(*list(drawn[0].values())[:2])


@pytest.mark.parametrize("family", ADAPTED)
@torch.no_grad()
def test_merged_equals_unmerged_and_off_equals_the_base(
    family: str,
    adapted: Callable[..., Decoder],
    make_shape: Callable[..., Shape],
    make_random: Callable[..., Decoder],
    ids: Tensor,
) -> None:
    base, model = make_random(make_shape(family)), adapted(family)
    unmerged = model(ids)
    assert (unmerged - base(ids)).abs().max() > 0.1
    with adapters_off(model):
        assert torch.equal(model(ids), base(ids))
    assert torch.equal(model(ids), unmerged)
    merge_adapters(model)
    assert not has_adapters(model)
    assert model.state_dict().keys() == base.state_dict().keys()
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert (model(ids) - unmerged).abs().max() < 1e-5


@torch.no_grad()
def test_with_a_cache_it_says_the_same(adapted: Callable[..., Decoder], ids: Tensor) -> None:
    model = adapted("qwen3")
    cache, whole = model.new_cache(len(ids)), model(ids)
    parts = [model(ids[:, :7], cache), *(model(ids[:, at : at + 1], cache) for at in range(7, ids.shape[1]))]
    assert (torch.cat(parts, dim=1) - whole).abs().max() < 1e-5


def test_in_float64_and_under_autocast(adapted: Callable[..., Decoder], ids: Tensor) -> None:
    model = adapted()
    exact = copy.deepcopy(model).double()(ids)
    assert exact.dtype == torch.float64
    assert (model(ids) - exact).abs().max() < 1e-4
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(ids)
    assert rounded.dtype == torch.bfloat16
    assert (rounded - exact).abs().mean() < 0.05 * exact.abs().mean()
    rounded.float().square().mean().backward()
    assert all(module.lora_A.weight.grad.isfinite().all() for module in matrices(model).values())


@pytest.mark.parametrize("what", ["full", "selective"])
def test_recomputed_it_learns_the_same(what: str, adapted: Callable[..., Decoder], ids: Tensor) -> None:
    gradients = []
    for model in (adapted().train(), recompute(adapted().train(), what)):
        model(ids).square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.requires_grad])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.skipif(why_not_compiled("cpu") is not None, reason="no C++ compiler")
def test_compiled_it_learns_the_same(adapted: Callable[..., Decoder]) -> None:
    plain, compiled = (adapted(num_layers=1).train().blocks[0].feedforward for _ in range(2))
    compile_modules([compiled], "cpu")
    for feedforward in (plain, compiled):
        x = torch.randn(2, 24, 32, generator=torch.Generator().manual_seed(1))
        feedforward(x).square().mean().backward()
    for (name, one), other in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        if one.requires_grad:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_dropout_acts_in_training_only_and_spares_the_base(adapted: Callable[..., Decoder]) -> None:
    model = adapted(dropout=0.5)
    module = matrices(model)["blocks.0.attention.query"]
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(module(x), module(x))
    model.train()
    torch.manual_seed(1)
    assert not torch.equal(module(x), module(x))
    with adapters_off(model):
        assert torch.equal(module(x), module.base(x))


def test_experts_take_no_adapters(make_shape: Callable[..., Shape], make_random: Callable[..., Decoder]) -> None:
    model = make_random(make_shape("qwen3_moe"))
    with pytest.raises(UserError, match="choose lora_targets=attention"):
        add_adapters(model, 2, 4.0, "all", 0.0, seed=7)
    assert len(add_adapters(model, 2, 4.0, "attention", 0.0, seed=7)) == 8
