import copy
from typing import Any

import numpy as np
import pytest
import torch
from functorch.compile import min_cut_rematerialization_partition
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.compilers import nop

from groundup.model.decoder import Decoder
from groundup.model.registry import build
from groundup.objective import CAUSAL
from groundup.parallel.recompute import recompute
from groundup.recipe import TrainRecipe
from groundup.shape import Shape
from groundup.shape import family as traits
from groundup.train.memory import record_steps
from groundup.train.step import TrainStep

from ..shapes import experts

FAMILIES, PRECISIONS = ("gpt1", "gpt2", "llama", "qwen3", "qwen3_moe"), ("fp32", "bf16", "bf16-weights", "fp16")
KINDS = ("none", "selective", "full")


def _shape(family: str, **changes: int) -> Shape:
    numbers = {
        "num_layers": 3,
        "width": 64,
        "num_heads": 4,
        "num_kv_heads": 2 if traits(family).grouped_query else 4,
        "head_width": 16,
        "feedforward_width": 192,
        "vocabulary_size": 128,
        "context": 32,
    }
    return Shape(family=family, **numbers | experts(family) | changes)


def _windows(shape: Shape, batch_size: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, shape.vocabulary_size, (batch_size, shape.context + 1))


def _trained(shape: Shape, precision: str, **settings: Any) -> tuple[list[float], list[Tensor], list[Tensor]]:
    """Losses of three steps, the weights after them, and the gradients that would come next."""
    model = build(shape, seed=5)
    take_step = TrainStep(model, CAUSAL, TrainRecipe(**settings), precision=precision, device="cpu")
    windows = _windows(shape, 4)
    losses = [take_step(windows, 1e-2).loss for _ in range(3)]
    take_step.accumulate(windows)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return losses, [parameter.detach() for parameter in model.parameters()], gradients


def _assert_same(found: tuple[list[float], ...], expected: tuple[list[float], ...]) -> None:
    assert found[0] == expected[0]
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_weights_and_gradients_are_the_same_bits(family: str, precision: str) -> None:
    none, selective, full = (_trained(_shape(family), precision, recompute=what, micro_batch=2) for what in KINDS)
    _assert_same(selective, none)
    _assert_same(full, none)


def _compiled(what: str) -> tuple[list[Tensor], int]:
    """The gradients of a model whose blocks went through the compiler, all but its code generator.

    And the bytes that a block's forward pass keeps beside its inputs and the random generator's state.
    """
    kept: list[int] = []

    def note_kept(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        _result, *others = graph.graph.output_node().args[0]
        values = [node.meta["val"] for node in others if getattr(node, "op", "placeholder") != "placeholder"]
        numbers = [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]
        kept.append(sum(int(value.numel()) * value.itemsize for value in numbers))
        return graph.forward

    torch._dynamo.reset()
    model = recompute(build(_shape("qwen3"), seed=5), what)
    backend = aot_autograd(
        fw_compiler=note_kept, bw_compiler=nop, partition_fn=min_cut_rematerialization_partition
    )
    for block in model.blocks:
        block.compile(dynamic=False, backend=backend, fullgraph=True)
    return _gradients(model), kept[0]


def _gradients(model: nn.Module) -> list[Tensor]:
    objective = CAUSAL
    objective.loss(model.train(), objective.collate(_windows(_shape("qwen3"), 2))).mean.backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def test_compiled_blocks_recompute() -> None:
    plain = _gradients(build(_shape("qwen3"), seed=5))
    kept = {}
    for what in KINDS:
        found, kept[what] = _compiled(what)
        for ours, theirs in zip(found, plain, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)
    assert kept["full"] == 0 < kept["selective"] < 0.7 * kept["none"]


def _kept_bytes(what: str, precision: str, shape: Shape) -> int:
    step = record_steps(shape, TrainRecipe(recompute=what), precision=precision, batch_size=4, num_steps=1)[0]
    last_of_forward = step.phases.index("backward") - 1
    return int(step.bytes["activations"][last_of_forward])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_less_is_kept_for_the_backward_pass(family: str, precision: str) -> None:
    """A layer more costs its input alone with full recomputation; without, everything; selective lies between."""
    shapes = [_shape(family, num_layers=layers, context=128) for layers in (2, 3)]
    few, more = ([_kept_bytes(what, precision, shape) for what in KINDS] for shape in shapes)
    none, selective, full = (after - before for before, after in zip(few, more, strict=True))
    size = 2 if precision == "bf16" and traits(family).post_norm else 4  # behind a norm the stream is short
    assert full == size * 4 * 128 * 64  # bytes, sequences, tokens, width
    assert full < selective < 0.7 * none


def test_scores_are_never_kept_by_selective_recomputation() -> None:
    """What a token costs does not grow with the context; without recomputation it does."""
    for what, grows in (("none", True), ("selective", False)):
        long, short = (
            _kept_bytes(what, "bf16", _shape("qwen3", context=context)) / context for context in (256, 64)
        )
        assert (long > 1.1 * short) is grows


def test_names_of_parameters_stay() -> None:
    for what in KINDS:
        model = build(_shape("qwen3"))
        names = list(model.state_dict())
        assert list(recompute(model, what).state_dict()) == names
        assert [name for name, _ in model.named_parameters()] == names


class _CountsPasses(nn.Module):
    """A model with one block that counts how often it is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0
        outer = self

        class Block(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = nn.Parameter(torch.ones(4))

            def forward(self, x: Tensor) -> Tensor:
                outer.passes += 1
                return (x * self.weight).tanh()

        self.blocks = nn.ModuleList([Block()])

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks[0](x)


@pytest.mark.parametrize("what", ["selective", "full"])
def test_only_training_recomputes(what: str) -> None:
    model = _CountsPasses()
    recompute(model, what)
    x = torch.randn(2, 4, requires_grad=True)
    model.train()(x).sum().backward()
    assert model.passes == 2
    model.eval()(x).sum().backward()
    assert model.passes == 3
    with torch.no_grad():
        model.train()(x)
    assert model.passes == 4


def test_nothing_is_changed_without_recomputation() -> None:
    model = _CountsPasses()
    recompute(model, "none")(torch.randn(2, 4, requires_grad=True)).sum().backward()
    assert model.passes == 1


def test_copies_made_before_are_separate() -> None:
    """A bf16 working copy is wrapped, its float32 master is not, and neither computes with the other's weights."""
    master = build(_shape("llama"), seed=5)
    wrapped = recompute(copy.deepcopy(master), "full")
    with torch.no_grad():
        for parameter in wrapped.parameters():
            parameter.zero_()
    ids = torch.arange(8)[None]
    assert not wrapped(ids).any()
    assert master(ids).any()


def test_a_cache_is_written_once() -> None:
    """Generation reads and writes the cache; a second pass would append the tokens twice."""
    model = recompute(build(_shape("qwen3"), seed=5), "full")
    assert isinstance(model, Decoder)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        cache = model.new_cache()
        parts = torch.cat([model.train()(ids[:, :5], cache), model(ids[:, 5:], cache)], dim=1)
        torch.testing.assert_close(parts, model(ids))
    assert cache.length == 12
